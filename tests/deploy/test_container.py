"""The container file: flags that there are, sources that there are, and a server that is not root."""

from __future__ import annotations

import json
import re

from deployment import DEPLOY, ROOT, serve_options

TEXT = (DEPLOY / "container" / "Containerfile").read_text(encoding="utf-8")
LINES = TEXT.replace("\\\n", " ").splitlines()
STEPS = [line.split(maxsplit=1) for line in LINES if line.strip() and not line.startswith("#")]


def arguments(name: str) -> list[str]:
    return [rest for step, rest in STEPS if step == name]


def test_the_server_starts_with_flags_that_there_are() -> None:
    (entry,) = arguments("ENTRYPOINT")
    program, verb, *flags = json.loads(entry)
    assert (program, verb) == ("/opt/ilmari/bin/ilmari", "serve")
    options = serve_options(flags)
    assert (options["model"], options["host"]) == (["/model"], "0.0.0.0")
    assert arguments("EXPOSE") == [str(options["port"])]
    assert f"127.0.0.1:{options['port']}/health" in arguments("HEALTHCHECK")[0]


def test_nothing_is_run_by_a_shell() -> None:
    assert all(json.loads(words) for words in arguments("RUN"))
    assert json.loads(arguments("HEALTHCHECK")[0].split("CMD")[1])


def test_it_is_not_root() -> None:
    (user,) = arguments("USER")
    assert int(user) > 0
    names = [step for step, _ in STEPS]
    assert "RUN" not in names[names.index("USER") :]


def test_sources_are_there() -> None:
    copies = [words.split() for words in arguments("COPY") if not words.startswith("--from")]
    assert all((ROOT / source).exists() for words in copies for source in words[:-1])
    assert "ADD" not in {step for step, _ in STEPS}


def test_it_pins_the_python_that_is_supported() -> None:
    wanted = re.search(r'requires-python = ">=([\d.]+)"', (ROOT / "pyproject.toml").read_text())
    assert wanted
    assert all(image.startswith(f"python:{wanted[1]}-slim") for image in arguments("FROM"))
