"""`clients`: who is calling, and in which tier."""

from __future__ import annotations

import ipaddress
import re
from typing import Annotated, Literal, Self

from pydantic import ConfigDict, Field, WithJsonSchema, model_validator

from mcpace_sidecar.contract.config.base import (
    URL_PATTERN,
    URL_WORDS,
    HeaderName,
    MisplacedError,
    Model,
    Name,
    SecretRef,
    rule,
    spelled,
)
from mcpace_sidecar.contract.quantity import Duration

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
_IPV4 = rf"{_BYTE}(\.{_BYTE}){{3}}(/(3[0-2]|[12]?[0-9]))?"
_IPV6 = r"[0-9A-Fa-f]*:[0-9A-Fa-f:.]+(/(12[0-8]|1[01][0-9]|[1-9]?[0-9]))?"
NETWORK_WORDS = "write a network, such as 10.1.0.0/16, or one address"
Network = Annotated[str, spelled(rf"^({_IPV4}|{_IPV6})$", NETWORK_WORDS, max_length=64)]
"""A network such as 10.1.0.0/16, or one address; 10.1.2.3/16 means the same network."""


_ORIGIN = r"^(null|[A-Za-z][A-Za-z0-9+.-]*://([^/* ]+|[*]))$"
ORIGIN_WORDS = (
    "write origins one by one, each with its scheme and without a path, such as https://a.example or"
    " vscode-webview://*"
)
Origin = Annotated[
    str,
    spelled(_ORIGIN, ORIGIN_WORDS, max_length=256),
    WithJsonSchema(
        {
            "type": "string",
            "maxLength": 256,
            "x-kubernetes-validations": [rule(f"self.matches('{_ORIGIN}')", ORIGIN_WORDS)],
        }
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
NAMING_WORDS = (
    "name a header of whom a gateway has verified, such as X-Consumer-Username: a credential would be told"
    " as a name; headers of HTTP, of MCP and of the way (X-Forwarded-For, X-Real-IP) mean something else"
)
TWICE_WORDS = "client and tier of trustedHeaders, and apiKeyHeader, must be headers of their own"
KEY_HEADER_WORDS = "apiKeyHeader must be a header of its own, such as X-API-Key"


class TrustedHeaders(Model):
    """Headers that a gateway in front has already verified; believed from `trustedProxies` alone."""

    model_config = ConfigDict(
        json_schema_extra={
            "x-kubernetes-validations": [
                rule(
                    f"!(self.client.lowerAscii() in {list(_TAKEN)})"
                    f" && (!has(self.tier) || !(self.tier.lowerAscii() in {list(_TAKEN)}))",
                    NAMING_WORDS,
                ),
                rule(
                    f"!self.client.lowerAscii().matches('{_CREDENTIAL}')"
                    f" && (!has(self.tier) || !self.tier.lowerAscii().matches('{_CREDENTIAL}'))",
                    NAMING_WORDS,
                ),
                rule("!has(self.tier) || self.tier.lowerAscii() != self.client.lowerAscii()", TWICE_WORDS),
            ]
        }
    )

    client: HeaderName = Field(
        description="The header that names the client, in logs and metrics too: none that holds a secret."
    )
    tier: HeaderName | None = Field(default=None, description="The header that names its tier.")

    @model_validator(mode="after")
    def _names_somebody(self) -> Self:
        for field, name in (("client", self.client), ("tier", self.tier or "")):
            if name.lower() in _TAKEN or re.search(_CREDENTIAL, name.lower()):
                raise MisplacedError((field,), NAMING_WORDS)
        if self.tier is not None and self.tier.lower() == self.client.lower():
            raise MisplacedError(("tier",), TWICE_WORDS)
        return self


WEB_WORDS = "allowedOrigins must name each origin of the web, such as https://a.example: all may not call"
TRUSTED_WORDS = "trustedHeaders needs trustedProxies: the networks whose headers are believed"


class Clients(Model):
    """Who is calling, and in which tier."""

    model_config = ConfigDict(
        json_schema_extra={
            "x-kubernetes-validations": [
                rule(
                    "!has(self.trustedHeaders)"
                    " || (has(self.trustedProxies) && size(self.trustedProxies) > 0)",
                    TRUSTED_WORDS,
                ),
                rule(
                    "!has(self.allowedOrigins)"
                    " || self.allowedOrigins.all(o, !(o.lowerAscii() in ['http://*', 'https://*']))",
                    WEB_WORDS,
                ),
                rule(
                    f"!has(self.apiKeyHeader) || !(self.apiKeyHeader.lowerAscii() in {list(_TAKEN)})",
                    KEY_HEADER_WORDS,
                ),
                rule(
                    "!has(self.apiKeyHeader) || !has(self.trustedHeaders)"
                    " || (self.apiKeyHeader.lowerAscii() != self.trustedHeaders.client.lowerAscii()"
                    " && (!has(self.trustedHeaders.tier)"
                    " || self.apiKeyHeader.lowerAscii() != self.trustedHeaders.tier.lowerAscii()))",
                    TWICE_WORDS,
                ),
            ]
        }
    )

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

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        for number, network in enumerate(self.trusted_proxies):
            try:
                ipaddress.ip_network(network, strict=False)
            except ValueError as error:
                raise MisplacedError(("trustedProxies", number), f"{error}; {NETWORK_WORDS}") from None
        if self.trusted_headers is not None and not self.trusted_proxies:
            raise MisplacedError(("trustedHeaders",), TRUSTED_WORDS)
        key_header, named = self.api_key_header.lower(), self.trusted_headers
        if key_header in _TAKEN:
            raise MisplacedError(("apiKeyHeader",), KEY_HEADER_WORDS)
        if named is not None and key_header in (named.client.lower(), (named.tier or "").lower()):
            raise MisplacedError(("apiKeyHeader",), TWICE_WORDS)
        if any(origin.lower() in ("http://*", "https://*") for origin in self.allowed_origins):
            raise MisplacedError(("allowedOrigins",), WEB_WORDS)
        return self
