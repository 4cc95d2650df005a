"""The URL of a server that a user gives, taken apart."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True)
class HttpUrl:
    """`path` has no slash at its end."""

    host: str
    port: int
    tls: bool
    path: str

    @property
    def host_header(self) -> str:
        """As the server is named in requests."""
        name = f"[{self.host}]" if ":" in self.host else self.host
        return name if self.port == _PORTS["https" if self.tls else "http"] else f"{name}:{self.port}"


def split_url(text: str) -> HttpUrl | None:
    """That of `http://HOST[:PORT][/PATH]` or https://, or None for anything else."""
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        return None
    plain = text.isascii() and text.isprintable() and " " not in text
    if parts.scheme not in _PORTS or not plain or not parts.hostname or parts.username or parts.query or parts.fragment:
        return None
    return HttpUrl(
        host=parts.hostname,
        port=_PORTS[parts.scheme] if port is None else port,
        tls=parts.scheme == "https",
        path=parts.path.rstrip("/"),
    )
