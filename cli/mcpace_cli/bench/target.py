"""A server as its clients reach it: where, and with which credentials."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import quote, urlsplit, urlunsplit

from mcpace_sidecar.contract.environment import API_KEY, TOKEN
from mcpace_sidecar.contract.surface import SERVER_PORT
from mcpace_sidecar.errors import ConfigError
from mcpace_sidecar.http.address import Address

_WRITE: Final = f"write for example http://127.0.0.1:{SERVER_PORT}/mcp"
_KEPT: Final = "/%:@!$&'()*+,;=~-._?"
"""What stays as it is in a path or a query."""
_PORTS: Final = {"http": 80, "https": 443}


class Target:
    """Where calls go, and the headers of credentials that go with them."""

    def __init__(self, url: str, key_header: str) -> None:
        """ConfigError where it is no URL, or a credential can be in no header."""
        try:
            parts = urlsplit(url)
            address = Address(parts.hostname or "", parts.port or _PORTS.get(parts.scheme, 0))
        except ValueError:
            raise ConfigError(f"this is no URL; {_WRITE}") from None
        if parts.scheme not in _PORTS or not parts.hostname:
            raise ConfigError(f"this is no URL; {_WRITE}")
        self.address = address
        self.tls = parts.scheme == "https"
        self.path = quote(parts.path or "/", _KEPT) + (
            f"?{quote(parts.query, _KEPT)}" if parts.query else ""
        )
        self.words = urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))
        """The URL without what may be a secret in it: who asks, and the query."""
        self.credential: dict[str, str] = {}
        for variable, header, before in ((API_KEY, key_header, ""), (TOKEN, "Authorization", "Bearer ")):
            given = variable.read()
            if given is None:
                continue
            if re.fullmatch("[!-~]+", given) is None:
                raise ConfigError(
                    f"{variable} can be in no header: write letters, digits and signs of ASCII"
                )
            if header.lower() in map(str.lower, self.credential):
                raise ConfigError(f"{API_KEY} and {TOKEN} would both go into {header}; set one of them")
            self.credential[header] = before + given
