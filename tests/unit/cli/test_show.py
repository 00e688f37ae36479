"""Tables as people see them."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from mcpace_cli.show import drawn


@pytest.mark.parametrize("width", range(8, 40))
def test_a_number_is_whole_or_shows_that_it_is_cut(width: int):
    console = Console(file=io.StringIO(), width=width)
    with console.capture() as captured:
        console.print(drawn(("P50", "P95", "STATUS"), [("120ms", "1340ms", "Ready")]))
    numbers = [word for word in captured.get().split() if word[0].isdigit()]
    assert all(word in ("120ms", "1340ms") or word.endswith("…") for word in numbers), captured.get()
