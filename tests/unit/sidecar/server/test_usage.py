"""What the server itself uses, as far as it can be seen."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from mcpace_sidecar.server import usage

SPINS = "x = bytearray(30_000_000)\nfor _ in range(3_000_000): pass\nprint('done', flush=True)\ninput()"


def test_a_child_is_seen_by_its_process() -> None:
    command = [sys.executable, "-c", SPINS]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        seen = dict(usage.of_processes(lambda: [child.pid]))
        child.kill()
    assert seen["mcpace_server_cpu_seconds"] > 0.02
    assert 30e6 < seen["mcpace_server_memory_bytes"] < 300e6
    assert list(usage.of_processes(lambda: [child.pid])) == []


def test_a_container_is_seen_by_its_cgroup(tmp_path: Path) -> None:
    assert list(usage.of_cgroup(tmp_path)) == []
    (tmp_path / "cpu.stat").write_text("usage_usec 2500000\nuser_usec 2000000\nsystem_usec 500000\n")
    (tmp_path / "memory.current").write_text("52428800\n")
    (tmp_path / "memory.max").write_text("max\n")
    seen = {"mcpace_server_cpu_seconds": 2.5, "mcpace_server_memory_bytes": 52428800}
    assert dict(usage.of_cgroup(tmp_path)) == seen
    (tmp_path / "memory.max").write_text("104857600\n")
    assert dict(usage.of_cgroup(tmp_path))["mcpace_server_memory_limit_bytes"] == 104857600
