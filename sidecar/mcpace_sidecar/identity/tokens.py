"""Bearer tokens of one issuer, verified with the keys it publishes.

PyJWT verifies; here is only when keys are fetched and how long a verdict is remembered: a
token costs its verification once. Source: RFC 7519 (JWT), RFC 7517 (JWKS), RFC 8725 (best
current practice: algorithms pinned, issuer and audience required).
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import time
import urllib.error
import urllib.request
from typing import Any, Final

import jwt

from mcpace_sidecar.bounded import make_room
from mcpace_sidecar.contract.config.clients import Jwt
from mcpace_sidecar.identity.client import LONGEST_NAME, Caller, Client

log = logging.getLogger(__name__)

REFRESH_INTERVAL: Final = 600.0
"""Seconds after which the issuer's keys are fetched again."""
UNKNOWN_KEY_INTERVAL: Final = 10.0
"""Seconds between two fetches for a key that is not known: a made-up key id costs the issuer nothing."""
FETCH_TIMEOUT: Final = 5.0
LEEWAY: Final = 30.0
"""Seconds that clocks may differ."""
_REMEMBERED: Final = 10_000
_MAX_BYTES: Final = 1024 * 1024
_MAX_KEYS: Final = 128
_LONGEST: Final = 16_384
"""Bytes of the longest token that is looked at."""


class Tokens:
    """Decides whose token it is."""

    def __init__(self, config: Jwt) -> None:
        self.config = config
        self._keys: dict[str | None, jwt.PyJWK] = {}
        self._document = b""
        self._fetched = self._tried = -REFRESH_INTERVAL
        self._fetching: asyncio.Task[None] | None = None
        self._known: dict[bytes, Caller] = {}

    def ours(self, token: bytes) -> bool:
        """Whether a token says it is of our issuer; if so, it must be valid."""
        if token.count(b".") != 2 or len(token) > _LONGEST:
            return False
        try:
            claims = jwt.decode(token, options={"verify_signature": False})
        except Exception:  # noqa: BLE001 - because what cannot be read is no token of ours
            return False
        return bool(claims.get("iss") == self.config.issuer)

    def known(self, token: bytes) -> Caller | None:
        """The verdict on a token seen before."""
        caller = self._known.get(hashlib.sha256(token).digest())
        return caller if caller is not None and caller.until > time.time() else None

    def callers(self) -> list[Caller]:
        """The verdicts that are remembered."""
        return list(self._known.values())

    async def judge(self, token: bytes) -> Caller:
        """Whose token it is; fetches the issuer's keys where they are wanted."""
        now = time.monotonic()
        if now - self._fetched > REFRESH_INTERVAL:
            await self._fetch(now)
        key = self._key(token)
        if key is None:
            await self._fetch(time.monotonic())
            key = self._key(token)
        if not self._keys:
            return Caller(None, words="Tokens cannot be verified now: retry shortly.", status=503)
        if key is None:
            return Caller(None, words="The token's key is not one of its issuer's.")
        caller = self._verify(token, key)
        if caller.client is not None:
            make_room(self._known, _REMEMBERED)
            self._known[hashlib.sha256(token).digest()] = caller
        return caller

    def _verify(self, token: bytes, key: jwt.PyJWK) -> Caller:
        config = self.config
        try:
            claims: dict[str, Any] = jwt.decode(
                token,
                key,
                algorithms=list(config.algorithms),
                audience=config.audience,
                issuer=config.issuer,
                leeway=LEEWAY,
                options={"require": ["exp", "iss", "aud"]},
            )
            until = float(claims["exp"]) + LEEWAY
        except jwt.InvalidTokenError as error:
            return Caller(None, words=f"The token is not valid: {error}.")
        except Exception:  # noqa: BLE001 - because a token that cannot even be judged is not valid
            return Caller(None, words="The token is not valid: its claims are not what they should be.")
        name = claims.get(config.client_claim)
        if not isinstance(name, str) or not name.isprintable() or not 0 < len(name) <= LONGEST_NAME:
            claim = config.client_claim
            words = f"The token does not name its client: {claim} must be a text of 1 to {LONGEST_NAME}."
            return Caller(None, words=words)
        tier = claims.get(config.tier_claim) if config.tier_claim is not None else None
        client = Client(
            f"jwt:{name}",
            tier if isinstance(tier, str) else None,
            anonymous=False,
            subject=json.dumps([config.issuer, claims.get("sub")]),
        )
        return Caller(client, until=until)

    def _key(self, token: bytes) -> jwt.PyJWK | None:
        try:
            kid = jwt.get_unverified_header(token).get("kid")
        except Exception:  # noqa: BLE001 - because a header that cannot be read names no key
            return None
        if kid is None and len(self._keys) == 1:
            return next(iter(self._keys.values()))
        return self._keys.get(kid) if isinstance(kid, str) else None

    async def _fetch(self, now: float) -> None:
        """Fetch the keys, once for all who ask meanwhile and not too often; nobody waits long for it."""
        if self._fetching is None:
            if now - self._tried < UNKNOWN_KEY_INTERVAL:
                return
            self._tried = now
            self._fetching = asyncio.get_running_loop().create_task(self._fetch_now())
        await asyncio.wait({self._fetching}, timeout=FETCH_TIMEOUT)

    async def _fetch_now(self) -> None:
        try:
            document, keys = await asyncio.to_thread(_read, self.config.jwks_url)
        except Exception as error:  # noqa: BLE001 - because whatever a stranger publishes, calls go on
            log.warning("The keys of %s cannot be fetched: %s", self.config.issuer, error)
        else:
            self._fetched = time.monotonic()
            if document != self._document:
                self._document = document
                self._keys = keys
                self._known.clear()  # a key that is gone verifies nothing any more
        finally:
            self._fetching = None


def _read(url: str) -> tuple[bytes, dict[str | None, jwt.PyJWK]]:
    """Fetch and read a set of keys, of bounded size and in bounded time."""
    until = time.monotonic() + FETCH_TIMEOUT
    request = urllib.request.Request(url, headers={"Accept": "application/json"})  # noqa: S310 - because the model admits http and https only
    document = b""
    with urllib.request.urlopen(request, timeout=FETCH_TIMEOUT) as answer:  # noqa: S310 - because of the same
        while piece := answer.read1(64 * 1024):
            document += piece
            if len(document) > _MAX_BYTES:
                raise ValueError(f"they are more than {_MAX_BYTES} bytes")
            if time.monotonic() > until:
                raise TimeoutError(f"they did not arrive within {FETCH_TIMEOUT:g} s")
    found = json.loads(document)
    if not isinstance(found, dict) or not isinstance(found.get("keys"), list):
        raise TypeError("they are no JSON Web Key Set")
    if len(found["keys"]) > _MAX_KEYS:
        raise ValueError(f"they are more than {_MAX_KEYS}")
    return document, {key.key_id: key for key in jwt.PyJWKSet.from_dict(found).keys}
