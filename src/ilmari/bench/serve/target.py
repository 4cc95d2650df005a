"""Where a server is that is put under load."""

from __future__ import annotations

import re
from dataclasses import dataclass

from ilmari.errors import RequestError
from ilmari.http_url import HttpUrl, split_url

_VERSION = re.compile(r"/v\d+$")


@dataclass(frozen=True)
class Target(HttpUrl):
    """`path` comes before the name of every endpoint and has the API's version at its end: /v1, or /proxy/v1."""

    @classmethod
    def of(cls, url: str) -> Target:
        """That of `http://HOST[:PORT][/PATH]`, with the API's version behind it or without.

        Raises:
            RequestError: it is no such URL.
        """
        parts = split_url(url)
        if parts is None:
            raise RequestError(
                f"--base-url is {url!r}; expected http://HOST:PORT, or https://, with a path if there is one."
            )
        path = parts.path if _VERSION.search(parts.path) else f"{parts.path}/v1"
        return cls(parts.host, parts.port, parts.tls, path)

    @property
    def url(self) -> str:
        """Of the API."""
        return f"{'https' if self.tls else 'http'}://{self.host_header}{self.path}"
