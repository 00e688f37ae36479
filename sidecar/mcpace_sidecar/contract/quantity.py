"""Durations and sizes as people write them in a manifest: `30s`, `5m`, `64Mi`."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import BeforeValidator, WithJsonSchema

DURATION_PATTERN = r"^([0-9]{1,9}(ms|s|m|h|d))$"
DURATION_WORDS = "write a duration such as 500ms, 30s, 5m, 1h or 1d"
SIZE_PATTERN = r"^[0-9]{1,12}(Ki|Mi|Gi)?$"
SIZE_WORDS = "write a size in bytes such as 65536, 64Ki, 4Mi or 1Gi"

_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_BYTES = {"": 1, "Ki": 1 << 10, "Mi": 1 << 20, "Gi": 1 << 30}


def seconds(duration: str) -> float:
    """Return the seconds of a duration such as `5m`; ValueError says what to write instead."""
    match = re.fullmatch(r"([0-9]{1,9})(ms|s|m|h|d)", duration)
    if match is None:
        raise ValueError(DURATION_WORDS)
    return int(match[1]) * _SECONDS[match[2]]


def size(quantity: int | str) -> int:
    """Return the bytes of a size such as `64Mi`; ValueError says what to write instead."""
    match = re.fullmatch(r"([0-9]{1,12})(Ki|Mi|Gi)?", str(quantity))
    if match is None:
        raise ValueError(SIZE_WORDS)
    return int(match[1]) * _BYTES[match[2] or ""]


def _checked_duration(value: Any) -> Any:
    if not isinstance(value, str):
        raise ValueError(DURATION_WORDS)  # noqa: TRY004 - because pydantic turns only this into words
    seconds(value)
    return value


def _checked_size(value: Any) -> Any:
    if type(value) not in (int, str):
        raise ValueError(SIZE_WORDS)
    size(value)
    return value


Duration = Annotated[
    str,
    BeforeValidator(_checked_duration),
    WithJsonSchema(
        {
            "type": "string",
            "maxLength": 12,
            "x-kubernetes-validations": [
                {"rule": f"self.matches('{DURATION_PATTERN}')", "message": DURATION_WORDS}
            ],
        }
    ),
]
"""A duration, kept as it was written; `seconds` reads it."""

Size = Annotated[
    int | str,
    BeforeValidator(_checked_size),
    WithJsonSchema(
        {
            "x-kubernetes-int-or-string": True,
            "maxLength": 16,
            "x-kubernetes-validations": [
                {"rule": f"string(self).matches('{SIZE_PATTERN}')", "message": SIZE_WORDS}
            ],
        }
    ),
]
"""A number of bytes, kept as it was written; `size` reads it."""
