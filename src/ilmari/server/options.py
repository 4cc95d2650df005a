"""How the front end behaves, as `ilmari serve` was told."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ilmari.engine.sampling_params import MAX_LOGPROBS
from ilmari.errors import ConfigError
from ilmari.server.limits import MAX_NAME_CHARS

HOST = "127.0.0.1"
PORT = 8000
MAX_NUM_QUEUED_REQS = 256
REQUEST_TIMEOUT_S = 600.0
DRAIN_TIMEOUT_S = 30


@dataclass(frozen=True, kw_only=True)
class ServerOptions:
    """What holds for all models; times in seconds.

    api_keys: without any, every request is let in. max_num_queued_reqs: replies that may wait beyond those that run.
    seed: of the requests that bring none; None draws each anew. Files of a certificate and its key: both or none.
    """

    host: str = HOST
    port: int = PORT
    root_path: str = ""
    api_keys: tuple[str, ...] = ()
    allowed_origins: tuple[str, ...] = ()
    ssl_keyfile: Path | None = None
    ssl_certfile: Path | None = None
    seed: int | None = None
    max_logprobs: int = MAX_LOGPROBS
    max_num_queued_reqs: int = MAX_NUM_QUEUED_REQS
    enable_request_id_headers: bool = False
    request_timeout: float = REQUEST_TIMEOUT_S
    drain_timeout: int = DRAIN_TIMEOUT_S

    def __post_init__(self) -> None:
        if (self.ssl_keyfile is None) != (self.ssl_certfile is None):
            raise ConfigError("TLS needs both --ssl-keyfile and --ssl-certfile; give both, or neither.")
        if self.root_path and (not self.root_path.startswith("/") or self.root_path.endswith("/")):
            raise ConfigError(f"--root-path is {self.root_path!r}; it starts with a slash and does not end with one.")


def read_api_keys(path: Path) -> tuple[str, ...]:
    """Keys of a file, one a line; empty lines and those that start with # are none.

    Raises:
        ConfigError: the file cannot be read, or has no key.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read ({error}); give a text file with one API key a line.") from error
    keys = tuple(key for line in lines if (key := line.strip()) and not key.startswith("#"))
    if not keys:
        raise ConfigError(f"{path} has no API key; write one a line.")
    return keys


def check_api_keys(keys: tuple[str, ...]) -> tuple[str, ...]:
    """The keys, if each can stand in a header.

    Raises:
        ConfigError: one cannot; the sentence does not repeat it.
    """
    for index, key in enumerate(keys):
        if not key or len(key) > MAX_NAME_CHARS or not key.isascii() or not key.isprintable() or " " in key:
            raise ConfigError(
                f"API key {index + 1} must be 1 to {MAX_NAME_CHARS} printable ASCII characters, no spaces."
            )
    return keys
