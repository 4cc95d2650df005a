"""`--chat-template`: another template is used, reaches nothing, and takes nobody else's time."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from bytes_tokenizer import encode
from checkpoints import BOS
from live_server import Answer, LiveServer, StartServer, wait_until

HASTY = """\
from ilmari.model import sandbox
sandbox.MAX_SECONDS = 4.0
from ilmari.cli.app import main
main()
"""

CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"

PLAIN = "{{ bos_token }}{% for m in messages %}[{{ m.role }}] {{ m.content }}\n{% endfor %}[{{ mood or 'calm' }}]"
SLOW = "{% set s = '" + "a" * 100 + "' * 50000 %}{% for i in range(9000) %}{{ s.count('ab') or '' }}{% endfor %}"
ATTACKS = {
    "classes": "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "globals": "{{ cycler.__init__.__globals__.os.popen('touch MARK').read() }}",
    "context": "{{ self._TemplateReference__context.environment.loader.x }}",
    "closure": "{{ raise_exception.__globals__['sys'].modules['os'].system('touch MARK') }}",
    "format": "{{ '{0.__class__.__mro__}'.format('') }}",
    "file": "{% include '/etc/passwd' %}",
    "import": "{% import 'os' as os %}{{ os.system('touch MARK') }}",
}


@pytest.fixture(scope="module")
def mark(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a template's commands would make."""
    return tmp_path_factory.mktemp("templates") / "mark"


@pytest.fixture(scope="module")
def custom(start_server: StartServer, mark: Path) -> Iterator[LiveServer]:
    """A server whose template does other things by the last message, each for at most a second."""
    deeds = {"slow": SLOW} | {name: attack.replace("MARK", str(mark)) for name, attack in ATTACKS.items()}
    branches = (f"{{% if messages[-1].content == '{name}' %}}{deed}{{% endif %}}" for name, deed in deeds.items())
    template = mark.with_name("mine.jinja")
    template.write_text(PLAIN + "".join(branches), encoding="utf-8")
    server = start_server("--chat-template", template, program=(sys.executable, "-P", "-c", HASTY))
    yield server
    server.wait_idle()
    server.stop()


def say(server: LiveServer, text: str, path: str = CHAT, **more: Any) -> Answer:
    limit = {"max_tokens": 1} if path == CHAT else {}
    return server.post(path, {"messages": [{"role": "user", "content": text}], **limit, **more})


def test_it_is_used(custom: LiveServer) -> None:
    assert say(custom, "hei", "/tokenize").json["tokens"] == [BOS, *encode("[user] hei\n[calm]")]
    variables = {"chat_template_kwargs": {"mood": "glad"}}
    assert say(custom, "hei", "/tokenize", **variables).json["tokens"] == [BOS, *encode("[user] hei\n[glad]")]
    assert say(custom, "hei").json["usage"]["prompt_tokens"] == 1 + len("[user] hei\n[calm]")


@pytest.mark.parametrize("name", ATTACKS)
def test_it_reaches_nothing(custom: LiveServer, mark: Path, name: str) -> None:
    for path in (CHAT, "/tokenize"):
        answer = say(custom, name, path)
        assert answer.status == 400, answer.body[:500]
        assert answer.error["message"].startswith("the chat template cannot render these messages: ")
    assert not mark.exists()
    assert say(custom, "hei").status == 200


def test_a_slow_one_keeps_nobody_else_waiting(custom: LiveServer) -> None:
    with ThreadPoolExecutor() as pool:
        slow = pool.submit(say, custom, "slow")
        wait_until(lambda: custom.metric("ilmari:http_requests_in_flight") == 2)
        assert custom.get("/health").status == 200
        assert custom.post(COMPLETIONS, {"prompt": "a", "max_tokens": 2}).status == 200
        assert say(custom, "hei").status == 200
        assert not slow.done()
        answer = slow.result()
    assert (answer.status, "more than 4 s" in answer.error["message"]) == (400, True)


def test_slow_ones_in_every_thread_end(custom: LiveServer) -> None:
    """Who waits for a thread gets it."""
    with ThreadPoolExecutor() as pool:
        slow = [pool.submit(say, custom, "slow") for _ in range(2)]
        wait_until(lambda: custom.metric("ilmari:http_requests_in_flight") == 3)
        assert custom.get("/health").status == custom.get("/ready").status == 200
        assert not any(one.done() for one in slow)
        assert say(custom, "hei").status == 200
        assert [one.result().status for one in slow] == [400, 400]
