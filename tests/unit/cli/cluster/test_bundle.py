"""A bundle of many pods, and one that cannot be written."""

from __future__ import annotations

import tarfile
from pathlib import Path

import pytest

from mcpace_cli.cluster.bundle import first, write
from mcpace_cli.cluster.top import MOST_PODS
from mcpace_operator.resource.workload import Pod

MANY = 1000


def pod(number: int, *, ready: bool) -> Pod:
    conditions = [{"type": "Ready", "status": str(ready)}]
    return Pod.of({"metadata": {"name": f"weather-{number}"}, "status": {"conditions": conditions}})


def test_of_many_pods_the_logs_of_those_are_read_that_are_not_ready():
    pods = [pod(number, ready=number != MANY // 2) for number in range(MANY)]
    read, others = first(pods)
    assert (len(read), others) == (MOST_PODS, MANY - MOST_PODS)
    assert read[0].name == f"weather-{MANY // 2}"
    assert first(pods[:3]) == (pods[:3], 0)


def test_a_bundle_is_its_owners_alone_and_whole_or_not_there(tmp_path: Path):
    path = tmp_path / "bundle.tar.gz"
    with pytest.raises(TypeError):
        write(path, "mcpace", {"a": b"text", "b": None})
    assert not path.exists()
    write(path, "mcpace", {"a": b"text"})
    assert path.stat().st_mode & 0o777 == 0o600
    with tarfile.open(path) as tar:
        assert tar.getnames() == ["mcpace/a"]
    with pytest.raises(FileExistsError):
        write(path, "mcpace", {"a": b"other"})
    assert path.exists(), "it is another's"
