"""Asking sidecars. Whoever answers is not trusted: bytes, time and form of an answer are bounded.

No redirect is followed and nothing is inflated: a pod could lead the operator to any address, or
into any amount of memory.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
from typing import Final, TypeVar

import aiohttp
import msgspec

log = logging.getLogger(__name__)

T = TypeVar("T")

TIMEOUT: Final = 1.0
"""Seconds that a sidecar may take for the whole of its answer."""
LONGEST: Final = 1 << 20
"""Bytes of an answer."""
AT_ONCE: Final = 32
"""Questions."""
_TOLD: Final = (200, 503)
"""What a sidecar answers with: its statistics, and that it is or is not ready."""


class RefusedError(Exception):
    """An answer that no sidecar gives."""


class Sidecars:
    """Asks the admin ports of sidecars, a few at a time."""

    def __init__(self) -> None:
        self._session: aiohttp.ClientSession | None = None
        self._slots = asyncio.Semaphore(AT_ONCE)

    async def ask(
        self, address: str, port: int, path: str, kind: type[T], *, token: str | None = None
    ) -> T | None:
        """What the sidecar at this address answers; None of one that is silent, late, or no sidecar."""
        try:
            at = ipaddress.ip_address(address)
            host = f"[{at}]" if at.version == 6 else str(at)
            async with self._slots:
                body = await self._get(f"http://{host}:{port}{path}", token)
            return msgspec.json.decode(body, type=kind)
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            log.debug("%s:%d%s: %r", address, port, path, error)
        except (RefusedError, ValueError, RecursionError) as error:
            log.warning("%s:%d%s is not answered as by a sidecar: %s", address, port, path, error)
        return None

    async def _get(self, url: str, token: str | None) -> bytes:
        """The body of an answer, whole; RefusedError."""
        headers = {"Accept-Encoding": "identity"}
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        if self._session is None:
            self._session = aiohttp.ClientSession(
                timeout=aiohttp.ClientTimeout(total=TIMEOUT),
                auto_decompress=False,
                cookie_jar=aiohttp.DummyCookieJar(),
            )
        async with self._session.get(url, headers=headers, allow_redirects=False) as answer:
            try:
                return await _body(answer)
            except RefusedError:
                answer.close()  # what else comes over this connection is not waited for
                raise

    async def close(self) -> None:
        """Close every connection."""
        if self._session is not None:
            await self._session.close()


async def _body(answer: aiohttp.ClientResponse) -> bytes:
    if answer.status not in _TOLD:
        raise RefusedError(f"HTTP {answer.status}")
    coding = answer.headers.get("Content-Encoding", "identity")
    if coding.strip().lower() != "identity":
        raise RefusedError("it is compressed, though nobody asked for that")
    body = bytearray()
    async for piece in answer.content.iter_any():
        body += piece
        if len(body) > LONGEST:
            raise RefusedError(f"it has more than {LONGEST >> 20} MiB")
    return bytes(body)
