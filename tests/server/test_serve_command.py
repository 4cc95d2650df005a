"""`ilmari serve` and `vastgenx serve` up to where the server takes over: what the options mean, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from ilmari.cli.app import app
from ilmari.compat.vastgenx import app as vastgenx
from ilmari.errors import ConfigError
from ilmari.server.options import ServerOptions, check_api_keys, read_api_keys


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What `serve` is called with."""
    calls: list[Any] = []
    monkeypatch.setattr("ilmari.server.serve.serve", lambda *arguments: calls.append(arguments))
    return calls


def run(command: typer.Typer, *arguments: str) -> None:
    result = CliRunner().invoke(command, ["serve", *arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output


def test_defaults(served: list[Any]) -> None:
    run(app, "--model", "here")
    ((options, (model,), engine),) = served
    assert options == ServerOptions()
    assert options.host == "127.0.0.1"
    assert (model.folder, model.names) == (Path("here"), ())
    assert engine.enable_prefix_caching is True


def test_several_models(served: list[Any], tmp_path: Path) -> None:
    odd = tmp_path / "a=b"
    odd.mkdir()
    run(app, "--model", "one=x/y", "--model", str(odd), "--no-enable-prefix-caching", "--max-num-seqs", "3")
    ((_, models, engine),) = served
    assert [(model.names, model.folder) for model in models] == [(("one",), Path("x/y")), ((), odd)]
    assert (engine.enable_prefix_caching, engine.max_num_seqs) == (False, 3)
    with pytest.raises(ConfigError, match="--served-model-name"):
        run(app, "--model", "one=x", "--served-model-name", "two")


def test_keys_from_a_file(served: list[Any], tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text("# ours\nfirst\n\n  second \n")
    run(app, "--model", "x", "--api-key", "zeroth", "--api-key-file", str(keys))
    assert served[0][0].api_keys == ("zeroth", "first", "second")
    keys.write_text("# none\n")
    with pytest.raises(ConfigError, match="no API key"):
        read_api_keys(keys)
    with pytest.raises(ConfigError, match="cannot be read"):
        read_api_keys(tmp_path / "absent")
    with pytest.raises(ConfigError, match="API key 2") as refusal:
        check_api_keys(("fine", "not fine"))
    assert "not fine" not in str(refusal.value)


def test_options_that_do_not_fit() -> None:
    with pytest.raises(ConfigError, match="both"):
        ServerOptions(ssl_keyfile=Path("key"))
    for root_path in ("api", "/api/"):
        with pytest.raises(ConfigError, match="--root-path"):
            ServerOptions(root_path=root_path)


def test_vastgenx(served: list[Any]) -> None:
    run(vastgenx, "--model", "x", "--host", "0.0.0.0", "--port", "9000", "--batch_size", "4", "--llm_devices", "[0,1]")
    ((options, (model,), engine),) = served
    assert (options.host, options.port, model.folder, engine.max_num_seqs) == ("0.0.0.0", 9000, Path("x"), 4)
    for devices in ("0", "[", "[]", '["a"]'):
        with pytest.raises(ConfigError, match="--llm_devices"):
            run(vastgenx, "--model", "x", "--llm_devices", devices)
