"""Who takes over a session whose owner is gone: every sidecar finds the same. Pure.

Each peer has a weight for each session, a digest of both; the heaviest comes first (rendezvous hashing,
Thaler and Ravishankar 1998). Who comes or goes changes nothing for the sessions of others.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable


def ranked(key: bytes, places: Iterable[str]) -> list[str]:
    """These peers, the heir of the session first. `places`: where they listen, as all know them."""
    return sorted(set(places), key=lambda place: (_weight(key, place), place), reverse=True)


def _weight(key: bytes, place: str) -> bytes:
    return hashlib.blake2b(place.encode(), digest_size=16, key=key[:64]).digest()
