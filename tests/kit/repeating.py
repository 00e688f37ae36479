"""How often tests repeat that do."""

from __future__ import annotations

import os


def repetitions(full: int) -> int:
    """How often a `repeated` test repeats: a tenth of what it does with MCPACE_REPEAT=1, as in `make soak`."""
    return max(1, round(full * float(os.environ.get("MCPACE_REPEAT", "0.1"))))
