"""Whom a command asks: the server at a URL, with the headers of credentials, or a command's process."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal
from urllib.parse import quote, urlsplit, urlunsplit

from mcpace_sidecar.contract.config import parse_strictly
from mcpace_sidecar.contract.config.clients import Clients
from mcpace_sidecar.contract.environment import API_KEY, TOKEN, Variable
from mcpace_sidecar.contract.surface import DATA_PORT
from mcpace_sidecar.errors import ConfigError
from mcpace_sidecar.http.address import Address

_URL: Final = f"write for example http://127.0.0.1:{DATA_PORT}/mcp"
LOCAL: Final = ("127.0.0.1", "localhost", "::1")
"""Hosts that are this machine, to which no proxy leads."""
_PORTS: Final = {"http": 80, "https": 443}
_KEPT: Final = "/%:@!$&'()*+,;=~-._?"
"""What stays as it is in a path or a query."""
_BOTH: Final = f"{API_KEY} and {TOKEN} would both go into the header Authorization; set one of them"


@dataclass(frozen=True, slots=True)
class Target:
    """Whom to ask. `repr` leaves the credentials out."""

    url: str = ""
    command: tuple[str, ...] = ()
    """What starts it, where there is no URL."""
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    transport: Literal["auto", "http", "sse"] = "auto"

    @classmethod
    def of(
        cls,
        url: str | None,
        command: tuple[str, ...] = (),
        transport: Literal["auto", "http", "sse"] = "auto",
        key_header: str = "X-API-Key",
    ) -> Target:
        """Whom the command line names; ConfigError where that is no URL, or a credential fits no header."""
        if command:
            return cls(command=command)
        try:
            parts = urlsplit(url or "")
            Address(parts.hostname or "", parts.port or 80)
        except ValueError:
            raise ConfigError(f"{shown(url or '')} is no URL; {_URL}") from None
        if parts.scheme not in _PORTS or not parts.hostname:
            raise ConfigError(f"{shown(url or '')} is no URL; {_URL}")
        return cls(str(url), (), _credentials(key_header), transport)

    @property
    def name(self) -> str:
        """What messages call it: of a URL nothing that may be a secret (who asks, the query)."""
        if not self.url:
            return " ".join(self.command)
        parts = urlsplit(self.url)
        return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))

    @property
    def elsewhere(self) -> bool:
        """Whether it is not on this machine, so that a proxy may be in between."""
        return urlsplit(self.url).hostname not in LOCAL

    @property
    def tls(self) -> bool:
        """Whether it is reached by HTTPS."""
        return urlsplit(self.url).scheme == "https"

    @property
    def address(self) -> Address:
        """Where it listens, if it has a URL."""
        parts = urlsplit(self.url)
        return Address(parts.hostname or "", parts.port or _PORTS[parts.scheme])

    @property
    def path(self) -> str:
        """What a request asks for there: the path, and the query if there is one."""
        parts = urlsplit(self.url)
        return quote(parts.path or "/", _KEPT) + (f"?{quote(parts.query, _KEPT)}" if parts.query else "")


def shown(url: str) -> str:
    """What is said of a URL that is none: nothing that may be a secret (who asks, the query)."""
    return repr(re.sub("//[^/]*@", "//", url).partition("?")[0])


def key_header(given: str | None, manifest: Path | None = None, name: str | None = None) -> str:
    """The header of API keys: as asked for, as the manifest says, or the usual one; ConfigError."""
    clients = Clients()
    if manifest is not None:
        # Imported here because most calls read no manifest.
        from mcpace_cli.manifest import read  # noqa: PLC0415 - because of that

        clients = read(manifest, name).spec.clients
    if given is not None:
        try:
            clients = parse_strictly(Clients, {"apiKeyHeader": given})
        except ConfigError as error:
            raise ConfigError(f"--api-key-header {given!r}: {error}") from None
    return clients.api_key_header


def credential(variable: Variable, what: str) -> str | None:
    """What it holds; None where it is not set. ConfigError, without it, where no header could hold it."""
    given = variable.read()
    if given is not None and not re.fullmatch("[!-~]+", given):
        raise ConfigError(f"{variable} holds what no {what} can: letters, digits and signs of ASCII alone")
    return given


def _credentials(key_header: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for variable, header, before, what in (
        (API_KEY, key_header, "", "key"),
        (TOKEN, "Authorization", "Bearer ", "token"),
    ):
        given = credential(variable, what)
        if given is not None:
            if header.lower() in map(str.lower, found):
                raise ConfigError(_BOTH)
            found[header] = before + given
    return found
