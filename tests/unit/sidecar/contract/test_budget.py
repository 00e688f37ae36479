"""The one limit of memory, and what of it there may be of each."""

import pytest

from mcpace_sidecar.contract import budget
from mcpace_sidecar.contract.budget import Budget, memory_limit
from mcpace_sidecar.errors import ConfigError

MIB = 1 << 20


def test_all_bounds_are_shares_of_one_limit() -> None:
    small, large = Budget(192 * MIB, 0, 1 << 20), Budget(1024 * MIB, 64 * MIB, 1 << 20)
    assert (small.connections, small.streams) == (2048, 1024)
    assert small.bodies + small.answers + 2 * small.egress < 192 * MIB
    for name in budget.SHARES:
        assert getattr(large, name) > getattr(small, name)
    assert sum(share.sixteenths for share in budget.SHARES.values()) <= 16
    assert Budget(1024 * MIB, 0, 256).connections == 64, "each call needs a file on either side"


def test_the_limit_is_the_containers(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MCPACE_MEMORY_LIMIT", raising=False)
    assert memory_limit(tmp_path) == budget.UNLIMITED
    v2 = tmp_path / "sys/fs/cgroup"
    (v2 / "a/b").mkdir(parents=True)
    (v2 / "memory.max").write_text("max\n")
    (v2 / "a/memory.max").write_text(f"{100 * MIB}\n")
    (v2 / "a/b/memory.max").write_text(f"{200 * MIB}\n")
    assert memory_limit(tmp_path) == budget.UNLIMITED
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text("0::/a/b\n")
    assert memory_limit(tmp_path) == 100 * MIB, "a parent's limit holds too"
    (v2 / "memory").mkdir()
    (v2 / "memory/memory.limit_in_bytes").write_text(f"{64 * MIB}\n")
    (tmp_path / "proc/self/cgroup").write_text("4:memory:/\n1:name=systemd:/x\n")
    assert memory_limit(tmp_path) == 64 * MIB
    monkeypatch.setenv("MCPACE_MEMORY_LIMIT", "96Mi")
    assert memory_limit(tmp_path) == 96 * MIB
    monkeypatch.setenv("MCPACE_MEMORY_LIMIT", "lots")
    with pytest.raises(ConfigError, match="write a size"):
        memory_limit(tmp_path)
