"""Chat templates render as Hugging Face renders them, and cannot do anything else."""

import json
from pathlib import Path
from typing import Any

import pytest

from ilmari.errors import ArtifactError, RequestError
from ilmari.model import chat
from ilmari.model.chat import ChatTemplate

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
        "{{ ('%s' | attr('__class__')).x.y }}",
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
    ],
)
@pytest.mark.timeout(20)
def test_attacks_and_failures(source: str) -> None:
    template = ChatTemplate(source, "<s>", "</s>")
    with pytest.raises(RequestError, match="cannot render these messages: ") as caught:
        template.render(HELLO)
    assert "\n" not in str(caught.value)


def test_template_may_refuse() -> None:
    with pytest.raises(RequestError, match=r"messages: Roles must alternate\.$"):
        render("{{ raise_exception('Roles must alternate.') }}")


def test_range_limit_is_per_rendering() -> None:
    template = ChatTemplate(f"{{% for i in range({chat.MAX_RANGE_TOTAL}) %}}{{% endfor %}}x", "", "")
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
