"""Where a server is: the URL that a user gives, taken apart."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from ilmari.errors import RequestError

_PORTS = {"http": 80, "https": 443}
_VERSION = re.compile(r"/v\d+$")


@dataclass(frozen=True)
class Target:
    """`path` comes before the name of every endpoint and has the API's version at its end: /v1, or /proxy/v1."""

    host: str
    port: int
    tls: bool
    path: str

    @classmethod
    def of(cls, url: str) -> Target:
        """That of `http://HOST[:PORT][/PATH]`, with the API's version behind it or without.

        Raises:
            RequestError: it is no such URL.
        """
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError:
            raise _no_url(url) from None
        if parts.scheme not in _PORTS or not parts.hostname or parts.query or parts.fragment or parts.username:
            raise _no_url(url)
        if not f"{parts.hostname}{parts.path}".isascii() or " " in parts.path:
            raise _no_url(url)
        path = parts.path.rstrip("/")
        return cls(
            host=parts.hostname,
            port=_PORTS[parts.scheme] if port is None else port,
            tls=parts.scheme == "https",
            path=path if _VERSION.search(path) else f"{path}/v1",
        )

    @property
    def url(self) -> str:
        """Of the API."""
        return f"{'https' if self.tls else 'http'}://{self.host_header}{self.path}"

    @property
    def host_header(self) -> str:
        """As the server is named in requests."""
        name = f"[{self.host}]" if ":" in self.host else self.host
        return name if self.port == _PORTS["https" if self.tls else "http"] else f"{name}:{self.port}"


def _no_url(url: str) -> RequestError:
    return RequestError(f"--base-url is {url!r}; expected http://HOST:PORT, or https://, with a path if there is one.")
