"""Where else a server may be."""

from __future__ import annotations

from pathlib import Path

import pytest

from mcpace_sidecar.server import diagnosis


@pytest.mark.parametrize(("state", "found"), [("0A", {8000}), ("01", set())])
def test_only_ports_that_are_listened_on_count(tmp_path: Path, state: str, found: set[int]):
    head = "  sl  local_address rem_address   st tx_queue rx_queue\n"
    (tmp_path / "tcp").write_text(f"{head}   0: 00000000:1F40 00000000:0000 {state} 00000000:00000000\n")
    assert diagnosis.listening(tmp_path) == found
