"""Durations and sizes as people write them in a manifest: `30s`, `5m`, `64Mi`."""

from __future__ import annotations

from typing import Annotated, Final

from mcpace_sidecar.contract.rules import Form

_SECONDS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_BYTES: Final = {"Ki": 1 << 10, "Mi": 1 << 20, "Gi": 1 << 30}

_DURATION: Final = Form(
    rf"^([0-9]{{1,9}})({'|'.join(_SECONDS)})$",
    "write a duration such as 500ms, 30s, 5m, 1h or 1d",
    longest=12,
)
SIZE_WORDS: Final = "write a size in bytes such as 65536, 64Ki, 4Mi or 1Gi"
_SIZE: Final = Form(rf"^([0-9]{{1,12}})({'|'.join(_BYTES)})?$", SIZE_WORDS, longest=16, or_number=True)

Duration = Annotated[str, _DURATION]
"""A duration, kept as it was written; `seconds` reads it."""

Size = Annotated[int | str, _SIZE]
"""A number of bytes, kept as it was written; `size` reads it."""


def seconds(duration: str) -> float:
    """Return the seconds of a duration such as `5m`; ValueError says what to write instead."""
    match = _DURATION.read(duration)
    return int(match[1]) * _SECONDS[match[2]]


def size(quantity: int | str) -> int:
    """Return the bytes of a size such as `64Mi`; ValueError says what to write instead."""
    match = _SIZE.read(quantity)
    return int(match[1]) * _BYTES.get(match[2], 1)
