"""`clients`: who is calling, and in which tier."""

from __future__ import annotations

import re
from typing import Annotated, Final, Literal

from pydantic import Field

from mcpace_sidecar.contract.config.base import (
    URL_PATTERN,
    URL_WORDS,
    HeaderName,
    Model,
    Name,
    SecretRef,
    spelled,
)
from mcpace_sidecar.contract.quantity import Duration
from mcpace_sidecar.contract.rules import Broken, Form, broken, rule

Algorithm = Literal[
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"
]
"""Signatures with a public key only: a shared secret has no place in a manifest (RFC 8725)."""

HttpUrl = Annotated[
    str,
    spelled(
        r"^https?://[^\s]+$",
        "write a URL, such as https://id.example/keys",
        max_length=512,
    ),
]

PublicUrl = Annotated[
    str,
    spelled(URL_PATTERN, URL_WORDS, max_length=512),
]
"""The address of an endpoint as the world knows it: no credential, query, fragment or escapes."""


_BYTE = "(25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
_IPV4 = f"{_BYTE}([.]{_BYTE}){{3}}"
_PIECE = "[0-9A-Fa-f]{1,4}"
_LAST = rf"({_PIECE}:{_PIECE}|{_IPV4})"
_IPV6 = "|".join(
    (
        rf"({_PIECE}:){{6}}{_LAST}",
        rf"::({_PIECE}:){{0,5}}{_LAST}",
        *(rf"({_PIECE}:){{{before}}}(:{_PIECE}){{0,{5 - before}}}:{_LAST}" for before in range(1, 6)),
        rf"({_PIECE}:){{1,6}}:{_PIECE}",
        rf"({_PIECE}:){{1,7}}:",
        rf"::({_PIECE})?",
    )
)
"""Eight pieces, the last two perhaps as an IPv4 address; `::` stands for one or more (RFC 4291, 2.2)."""
Network = Annotated[
    str,
    Form(
        rf"^({_IPV4}(/(3[0-2]|[12]?[0-9]))?|({_IPV6})(/(12[0-8]|1[01][0-9]|[1-9]?[0-9]))?)$",
        "write a network, such as 10.1.0.0/16, or one address",
        longest=64,
    ),
]
"""A network such as 10.1.0.0/16, or one address; 10.1.2.3/16 means the same network."""


Origin = Annotated[
    str,
    Form(
        r"^(null|[A-Za-z][A-Za-z0-9+.-]*://([^/* ]+|[*]))$",
        "write origins one by one, each with its scheme and without a path, such as https://a.example or"
        " vscode-webview://*",
        longest=256,
    ),
]
"""What a browser sends as Origin; with `*`, every one of a scheme that is not the web's."""

Host = Annotated[
    str,
    spelled(
        r"^(\*\.)?[A-Za-z0-9._-]+(:[0-9]{1,5})?$|^\[[0-9A-Fa-f:.]+\](:[0-9]{1,5})?$",
        "write a host without a scheme, such as host.docker.internal, a.example:8080 or *.tunnel.example",
        min_length=1,
        max_length=256,
    ),
]


class ApiKeys(Model):
    """Keys of one tier: the Secret's entries are client name -> key."""

    tier: Name = Field(description="The tier of these clients.")
    secret_ref: SecretRef


class Jwt(Model):
    """Bearer tokens of one issuer, verified here (RFC 7519, RFC 8725)."""

    issuer: str = Field(min_length=1, max_length=512, description="What `iss` must be.")
    audience: str = Field(min_length=1, max_length=512, description="What `aud` must hold.")
    jwks_url: HttpUrl = Field(alias="jwksURL", description="Where the issuer publishes its keys.")
    algorithms: tuple[Algorithm, ...] = Field(
        default=("RS256", "ES256"), min_length=1, max_length=10, description="Signatures accepted."
    )
    client_claim: str = Field(
        default="sub", min_length=1, max_length=128, description="The claim that names the client."
    )
    tier_claim: str | None = Field(
        default=None, min_length=1, max_length=128, description="The claim that names its tier."
    )


_CREDENTIAL = (
    "(authorization|cookie2?|token|jwt|password|secret|assertion|oidc-data|session[-_]?id"
    "|(api|access|auth|secret)[-_]?key)$"
)
"""How headers end whose value nobody else may know; a client's name stands in logs and metrics."""
_TAKEN = (
    "accept", "accept-encoding", "connection", "content-encoding", "content-length", "content-type",
    "expect", "forwarded", "host", "keep-alive", "mcp-method", "mcp-name", "mcp-protocol-version",
    "mcp-session-id", "origin", "te", "traceparent", "trailer", "transfer-encoding", "upgrade",
    "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-real-ip",
)  # fmt: skip
"""Headers of HTTP, of MCP, and of the way by which a call came: each means something else already."""
_NAMING_WORDS = (
    "name a header of whom a gateway has verified, such as X-Consumer-Username: a credential would be told"
    " as a name; headers of HTTP, of MCP and of the way (X-Forwarded-For, X-Real-IP) mean something else"
)
_TWICE_WORDS = "client and tier of trustedHeaders, and apiKeyHeader, must be headers of their own"


class TrustedHeaders(Model):
    """Headers that a gateway in front has already verified; believed from `trustedProxies` alone."""

    client: HeaderName = Field(
        description="The header that names the client, in logs and metrics too: none that holds a secret."
    )
    tier: HeaderName | None = Field(default=None, description="The header that names its tier.")

    @property
    def names(self) -> dict[str, str]:
        """Field -> the header that it names, in lower case."""
        named = {"client": self.client, "tier": self.tier}
        return {field: name.lower() for field, name in named.items() if name is not None}

    @rule(
        f"!(self.client.lowerAscii() in {list(_TAKEN)})"
        f" && (!has(self.tier) || !(self.tier.lowerAscii() in {list(_TAKEN)}))",
        _NAMING_WORDS,
    )
    def _mean_nothing_else(self) -> Broken | None:
        return next((Broken((field,)) for field, name in self.names.items() if name in _TAKEN), None)

    @rule(
        f"!self.client.lowerAscii().matches('{_CREDENTIAL}')"
        f" && (!has(self.tier) || !self.tier.lowerAscii().matches('{_CREDENTIAL}'))",
        _NAMING_WORDS,
    )
    def _hold_no_credential(self) -> Broken | None:
        named = self.names.items()
        return next((Broken((field,)) for field, name in named if re.search(_CREDENTIAL, name)), None)

    @rule("!has(self.tier) || self.tier.lowerAscii() != self.client.lowerAscii()", _TWICE_WORDS)
    def _differ(self) -> Broken | None:
        return broken(self.names.get("tier") == self.names["client"], "tier")


_WHOLE_WEB: Final = ["http://*", "https://*"]


class Clients(Model):
    """Who is calling, and in which tier."""

    api_keys: tuple[ApiKeys, ...] = Field(
        default=(), max_length=32, description="Secrets that hold keys, each of one tier."
    )
    api_key_header: HeaderName = Field(
        default="X-API-Key",
        description="The header that holds an API key; without `apiKeys` it is the server's own.",
    )
    jwt: Jwt | None = None
    trusted_proxies: tuple[Network, ...] = Field(
        default=(),
        max_length=64,
        description="Networks whose trustedHeaders and forwarding headers (X-Forwarded-*, Forwarded,"
        " X-Real-IP) are believed; from all others they are replaced.",
    )
    trusted_headers: TrustedHeaders | None = None
    anonymous: Literal["allow", "deny"] = Field(
        default="allow", description="Whether a caller without a credential of ours may call at all."
    )
    idle_timeout: Duration = Field(
        default="620s",
        description="How long a client's connection is kept without a request: longer than the balancers"
        " before it keep theirs, which is up to 600 s.",
    )
    forward_credential: bool = Field(
        default=False,
        description="Whether a credential that is verified here is passed on to the server.",
    )
    allowed_origins: tuple[Origin, ...] = Field(
        default=(),
        max_length=32,
        description="Browser origins that may call, such as https://a.example; of another scheme than"
        " http and https also all, such as vscode-webview://*.",
    )
    allowed_hosts: tuple[Host, ...] = Field(
        default=(),
        max_length=32,
        description="Hosts that may be called, such as host.docker.internal or *.tunnel.example, with a"
        " port or at any. Local ones always may; elsewhere than on loopback all may where none is written.",
    )

    @rule(
        "!has(self.trustedHeaders) || (has(self.trustedProxies) && size(self.trustedProxies) > 0)",
        "trustedHeaders needs trustedProxies: the networks whose headers are believed",
    )
    def _believes_somebody(self) -> Broken | None:
        return broken(self.trusted_headers is not None and not self.trusted_proxies, "trustedHeaders")

    @rule(
        f"!has(self.allowedOrigins) || self.allowedOrigins.all(o, !(o.lowerAscii() in {_WHOLE_WEB}))",
        "allowedOrigins must name each origin of the web, such as https://a.example: all may not call",
    )
    def _lets_nobody_in_unnamed(self) -> Broken | None:
        whole = any(origin.lower() in _WHOLE_WEB for origin in self.allowed_origins)
        return broken(whole, "allowedOrigins")

    @rule(
        f"!has(self.apiKeyHeader) || !(self.apiKeyHeader.lowerAscii() in {list(_TAKEN)})",
        "apiKeyHeader must be a header of its own, such as X-API-Key",
    )
    def _key_header_means_nothing_else(self) -> Broken | None:
        return broken(self.api_key_header.lower() in _TAKEN, "apiKeyHeader")

    @rule(
        "!has(self.apiKeyHeader) || !has(self.trustedHeaders)"
        " || (self.apiKeyHeader.lowerAscii() != self.trustedHeaders.client.lowerAscii()"
        " && (!has(self.trustedHeaders.tier)"
        " || self.apiKeyHeader.lowerAscii() != self.trustedHeaders.tier.lowerAscii()))",
        _TWICE_WORDS,
    )
    def _key_header_is_its_own(self) -> Broken | None:
        named = self.trusted_headers
        taken = named is not None and self.api_key_header.lower() in named.names.values()
        return broken(taken, "apiKeyHeader")
