"""Keys that all replicas of one server derive from its secret. Pure."""

from __future__ import annotations

import re
from typing import Final

from mcpace_sidecar.errors import ConfigError

KEY_BYTES: Final = 32
"""Of a secret, and of what is derived from it."""


def read(written: str, name: str) -> bytes:
    """The secret that is written in hexadecimal digits; ConfigError says what to write. `name`: of what."""
    if re.fullmatch(r"[0-9A-Fa-f]{64}", written.strip()) is None:
        raise ConfigError(f"{name} is no key; write {KEY_BYTES} random bytes in hex: openssl rand -hex 32")
    return bytes.fromhex(written.strip())


def derive(secret: bytes, purpose: bytes) -> bytes:
    """A key for one purpose: HKDF-SHA256 without a salt (RFC 5869)."""
    # Imported here because cryptography is held in memory only where it is used.
    from cryptography.hazmat.primitives import hashes  # noqa: PLC0415 - because of that
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF  # noqa: PLC0415 - because of that

    return HKDF(hashes.SHA256(), KEY_BYTES, salt=None, info=purpose).derive(secret)
