"""The configuration and the keys, looked at while others write them."""

from __future__ import annotations

import itertools
import shutil
import threading
from pathlib import Path

from mcpace_sidecar.process.configuration import fingerprint


def test_keys_that_go_while_they_are_looked_at_end_nothing(tmp_path: Path) -> None:
    """A kubelet swaps the folder of a Secret, and removes the old one."""
    (tmp_path / "keys").mkdir()
    done = threading.Event()

    def swap() -> None:
        for version in itertools.count():
            folder = tmp_path / "keys" / f"..{version}"
            folder.mkdir()
            (folder / "anna").write_text("key")
            shutil.rmtree(folder)
            if done.is_set():
                return

    swapping = threading.Thread(target=swap)
    swapping.start()
    try:
        for _ in range(2000):
            fingerprint((), tmp_path)
    finally:
        done.set()
        swapping.join()
