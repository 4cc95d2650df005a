"""Chat templates render as Hugging Face renders them, and cannot do anything else."""

import json
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from jinja2 import Environment

from ilmari.errors import ArtifactError, RequestError
from ilmari.model import sandbox
from ilmari.model.chat import ChatTemplate

GROWTHS = [
    "{{ 'a'.center(60000000) }}",
    "{{ 'a'.zfill(60000000) }}",
    "{{ 'a'['ljust'](60000000) }}",
    "{{ '\\t'.expandtabs(60000000) }}",
    "{{ '%60000000d' % 1 }}",
    "{{ '%*d' % (60000000, 1) }}",
    "{{ '{:>60000000}'.format(1) }}",
    "{{ '{x:>60000000}'.format_map({'x': 1}) }}",
    "{{ (5).to_bytes(60000000) }}",
    "{{ messages | tojson(indent=60000000) }}",
    "{% set s = 'x' * 9999 %}{{ s.replace('x', s) }}",
    "{% set s = 'x' * 9999 %}{{ s | replace('', s) }}",
    "{% set s = 'x' * 9999 %}{{ s.join(s) }}",
    "{{ ('ab ' * 5000000).split() | length }}",
    "{{ ('ab,' * 5000000).split(',') | length }}",
    "{{ ('書' * 5000000) | list | length }}",
    "{{ [1] * 10000000 }}",
    *(
        "{% set ns = namespace(s="
        + start
        + ") %}{% for i in range(40) %}{% set ns.s = "
        + step
        + " %}{% endfor %}x"
        + end
        for start, step, end in [
            ("'書'", "ns.s ~ ns.s", ""),
            ("'x'", "ns.s + ns.s", ""),
            ("['x']", "ns.s + ns.s", ""),
            ("('x',)", "ns.s + ns.s", ""),
            ("'x'", "[ns.s, ns.s] | join", ""),
            ("'x'", "ns.s.join([ns.s, ns.s])", ""),
            ("'x'", "ns.s.replace('x', 'xx')", ""),
            ("'x'", "[ns.s, ns.s]", "{{ ns.s }}"),
            ("'x'", "(ns.s, ns.s)", "{{ ns.s | tojson }}"),
            ("'x'", "(ns.s, ns.s)", "{{ ns.s | tojson(indent=1) }}"),
            ("'x'", "{'a': ns.s, 'b': ns.s}", "{{ ns.s.items() | string | length }}"),
            ("'x'", "{'a': ns.s, 'b': ns.s}", "{{ ns.s | upper | length }}"),
            ("'x'", "[ns.s, ns.s]", "{{ ns }}"),
        ]
    ),
    "{% set ns = namespace(s='x') %}{% for i in range(40) %}{% set t %}{{ ns.s }}{{ ns.s }}{% endset %}"
    "{% set ns.s = t %}{% endfor %}",
    "{% macro f(s) %}{{ s }}{{ s }}{% endmacro %}{% set ns = namespace(s='x') %}{% for i in range(40) %}"
    "{% set ns.s = f(ns.s) %}{% endfor %}",
    "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(40) }}",
    *(
        "{% set s = 'x' * 1000000 %}{% set ns = namespace(l=[]) %}{% for i in range(999) %}{% set ns.l = ns.l + ["
        + copy
        + "] %}{% endfor %}"
        for copy in ("s[1:]", "s.upper()", "s | upper", "s.strip('y')[:-1]", "[1] * 1000000")
    ),
]
"""Little that makes much."""

SLOW_TEMPLATE = (
    "{% set s = '" + "a" * 100 + "' * 50000 %}{% for i in range(9000) %}{{ s.count('ab') or '' }}{% endfor %}"
)
"""Minutes of work on five megabytes."""

HELLO = [{"role": "user", "content": "hi"}]


def render(source: str, messages: Any = HELLO, **options: bool) -> str:
    return ChatTemplate(source, "<s>", "</s>").render(messages, **options)


@pytest.mark.shared
def test_internlm2(shared: Path) -> None:
    settings = json.loads((shared / "tokenizers" / "internlm2" / "tokenizer_config.json").read_text(encoding="utf-8"))
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "你好 <b>&amp;</b>"},
        {"role": "assistant", "content": ""},
        {"role": "environment name=<|plugin|>", "content": '{"a": 1}\n'},
    ]
    expected = (
        "<s><|im_start|>system\nBe brief.<|im_end|>\n"
        "<|im_start|>user\n你好 <b>&amp;</b><|im_end|>\n"
        "<|im_start|>assistant\n<|im_end|>\n"
        '<|im_start|>environment name=<|plugin|>\n{"a": 1}\n<|im_end|>\n'
    )
    assert render(settings["chat_template"], messages, add_generation_prompt=False) == expected
    assert render(settings["chat_template"], messages) == expected + "<|im_start|>assistant\n"


def test_block_lines_leave_no_white_space() -> None:
    source = (
        "{% for m in messages %}\n    {% if true %}\n{{ m.role }}\n    {% endif %}\n{% endfor %}\n{{ eos_token }}\n"
    )
    assert render(source) == "user\n</s>"


def test_loop_controls_and_namespace() -> None:
    loop = "{% for i in range(9) %}{% if i == 3 %}{% break %}{% endif %}{% set ns.n = ns.n + i * 2 %}{% endfor %}"
    assert render("{% set ns = namespace(n=0) %}" + loop + "{{ ns.n }}{{ '-' * 3 }}") == "6---"


def test_tojson_is_plain() -> None:
    source = "{{ messages[0].tools | tojson }}{{ messages[0].tools | tojson(indent=1) }}"
    message = {"role": "user", "content": "", "tools": [{"名": "<&>"}]}
    assert render(source, [message]) == '[{"名": "<&>"}]' + '[\n {\n  "名": "<&>"\n }\n]'


def test_variables_are_those_that_the_template_reads() -> None:
    template = ChatTemplate("{% if thinking %}{{ depth }}{% endif %}{% set own = 1 %}{{ messages[0].role }}", "", "")
    assert template.render(HELLO, variables={"thinking": True, "depth": 3}) == "3user"
    for name in ("own", "messages", "namespace", "other"):
        with pytest.raises(RequestError, match=f"'{name}'.*depth, thinking"):
            template.render(HELLO, variables={name: 1})


def test_messages_are_not_changed() -> None:
    message = {"role": "user", "content": "x"}
    with pytest.raises(RequestError, match="cannot render"):
        render("{% set _ = messages[0].update({'role': 'system'}) %}", [message])
    assert message == {"role": "user", "content": "x"}


@pytest.mark.parametrize(
    ("messages", "named"),
    [
        ([], "non-empty list"),
        ("hello", "non-empty list"),
        ({"role": "user", "content": "x"}, "non-empty list"),
        (None, "non-empty list"),
        (["hello"], r"messages\[0\] is str"),
        ([*HELLO, {"role": "user"}], r"messages\[1\] has no content"),
        ([{"content": "x"}], r"messages\[0\] has no role"),
        ([{"role": 1, "content": "x"}], r"messages\[0\]\.role is int"),
        ([{"role": "user", "content": None}], r"messages\[0\]\.content is NoneType"),
        ([{"role": "user", "content": [{"type": "image_url"}]}], r"messages\[0\]\.content is list"),
    ],
)
def test_malformed_messages(messages: Any, named: str) -> None:
    with pytest.raises(RequestError, match=named):
        render("x", messages)


@pytest.mark.parametrize(
    "source",
    [
        "{{ ''.__class__.__mro__ }}",
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ cycler.__init__.__globals__.os.popen('id').read() }}",
        "{{ self.__init__.__globals__ }}{{ self._TemplateReference__context.environment.loader.x }}",
        "{{ raise_exception.__globals__['jinja2'] }}",
        "{{ range.__closure__[0] }}",
        "{{ '{0.__class__.__mro__}'.format('') }}",
        "{{ messages.append(1) }}",
        "{% include '/etc/passwd' %}",
        "{% import 'os' as os %}",
        "{{ lipsum(n=5) }}",
        "{{ strftime_now('%Y') }}",
        "{{ range(10 ** 9) | list }}",
        "{{ range(99999999999999999999) | list }}",
        "{% for i in range(9999) %}{% for j in range(9999) %}{% endfor %}{% endfor %}",
        "{% for i in range(9999) %}{% for j in range(0) %}{% endfor %}{% for j in range(0) %}{% endfor %}{% endfor %}",
        "{{ 'x' * 999999999999 }}",
        "{{ 999999999999 * ['x'] }}",
        "{{ 9 ** 9 ** 9 }}",
        "{% set s = 'x' * 10000000 %}{% for i in range(9999) %}{{ s }}{% endfor %}",
        "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
        "{{ 1 / 0 }}",
        "{{ messages[0].content.nothing.more }}",
        "{{ messages | tojson(indent='x'.y) }}",
        *GROWTHS,
    ],
)
@pytest.mark.timeout(20)
def test_attacks_and_failures(source: str) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(RequestError, match="cannot render these messages: ") as caught:
            ChatTemplate(source, "<s>", "</s>").render(HELLO)
        assert tracemalloc.get_traced_memory()[1] < 50_000_000
    finally:
        tracemalloc.stop()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "source",
    ["{{ 'a' | center(60000000) }}", "{{ '%s' | attr('__class__') }}", "{{ 'a' | indent(60000000, first=true) }}"],
)
def test_filters_that_there_are_not(source: str) -> None:
    with pytest.raises(ArtifactError, match=r"line 1: No filter named '[a-z]+'; mend"):
        ChatTemplate(source, "", "")


@pytest.mark.parametrize(
    "source",
    [
        "{{ messages[0].content.strip().split('i')[0] ~ 1 ~ none ~ [true, 'x'] ~ nothing }}",
        "{% for m in messages[::-1] %}{{ loop.index0 % 2 }}{{ loop.last ~ loop.length }}{{ m['role'] }}{% endfor %}",
        "{% for k, v in messages[0].items() %}{{ k + '=' + v | replace('h', 'H') | trim }}{% else %}none{% endfor %}",
        "{% for k, v in messages[0] | dictsort %}{{ k | title }}{{ v }}{% endfor %}{% for x in nothing %}{% endfor %}",
        "{% macro f(a, b=(1, 2)) %}{{ a ~ b }}{{ caller() if caller }}{% endmacro %}{% call f('x') %}y{% endcall %}",
        "{% set text %}{% for m in messages if m.role == 'user' %}{{ m }}{% endfor %}{% endset %}{{ text | length }}",
        "{{ messages | map(attribute='role') | join(', ') }}{{ ', '.join(messages | map(attribute='role') | list) }}",
        "{{ (messages | selectattr('role', 'eq', 'user') | list | last).role }}{{ messages | map('length') | max }}",
        "{{ {'a': [1, 2.5, {}]} | tojson }}{{ (messages | tojson)[2:6] }}{{ 'x' is defined and 'x' in ['x'] }}",
        "{% filter upper %}{{ messages | string }}{% endfilter %}{{ 'a b  c'.split() }}{{ 'abc'.replace('', '-') }}",
        "{%- set ns = namespace(n=false) %}{% for i in range(3) %}{% set ns.n = i %}{% endfor %}{{ ns.n * 2 }}",
    ],
)
def test_other_templates_render_as_jinja_does(source: str) -> None:
    messages = [{"role": "user", "content": " hi "}, {"role": "assistant", "content": "書"}]
    jinja = Environment(trim_blocks=True, lstrip_blocks=True)
    jinja.policies["json.dumps_kwargs"] = {}
    assert render(source, messages) == jinja.from_string(source).render(messages=messages)


def test_long_conversations_fit() -> None:
    source = (
        "{% set ns = namespace(s='') %}{% for m in messages %}{% set ns.s = ns.s + m.role + m.content %}{% endfor %}"
    )
    text = "x" * 10_000
    assert render(source + "{{ ns.s }}", [{"role": "user", "content": text}] * 50) == ("user" + text) * 50


def test_template_may_refuse() -> None:
    with pytest.raises(RequestError, match=r"messages: Roles must alternate\.$"):
        render("{{ raise_exception('Roles must alternate.') }}")


def test_time_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox, "MAX_SECONDS", 0.05)
    with pytest.raises(RequestError, match=r"computes for more than 0\.05 s\.$"):
        render(SLOW_TEMPLATE)


def test_range_limit_is_per_rendering() -> None:
    template = ChatTemplate(f"{{% for i in range({sandbox.MAX_RANGE_TOTAL}) %}}{{% endfor %}}x", "", "")
    assert [template.render(HELLO), template.render(HELLO)] == ["x", "x"]


@pytest.mark.parametrize(
    ("source", "named"),
    [("a\n{% if %}", "line 2: "), ("{{ x | nothing }}", "nothing"), ("{{" + "(" * 5000, "chat_template.jinja")],
)
def test_broken_templates(source: str, named: str) -> None:
    with pytest.raises(ArtifactError, match=named):
        ChatTemplate(source, "", "")


def test_base_models_have_none(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="no chat template"):
        ChatTemplate.load(tmp_path, "<s>", "</s>").render(HELLO)


def test_load(tmp_path: Path) -> None:
    (tmp_path / "chat_template.jinja").write_text("{{ bos_token }}ü", encoding="utf-8")
    assert ChatTemplate.load(tmp_path, "<s>", "</s>").render(HELLO) == "<s>ü"
    (tmp_path / "chat_template.jinja").write_bytes(b"\xff")
    with pytest.raises(ArtifactError, match="cannot be read"):
        ChatTemplate.load(tmp_path, "<s>", "</s>")
