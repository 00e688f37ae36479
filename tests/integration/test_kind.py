"""The walk on a local cluster, as far as it goes without Docker: it says what is missing, and what to do."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from tests.cluster.binaries import program
from tests.conftest import ROOT

pytestmark = pytest.mark.interpreted


def walk(path: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "examples/kind.py")]
    return subprocess.run(
        command,
        env=os.environ | {"PATH": str(path)} | environment,
        capture_output=True,
        text=True,
        timeout=60,
    )


def tool(folder: Path, name: str, says: str, code: int = 1) -> None:
    """A program of that name that fails with these words, as the real one does."""
    path = folder / name
    path.write_text(f"#!/bin/sh\necho '{says}' >&2\nexit {code}\n")
    path.chmod(0o755)


def test_without_docker_it_says_what_to_install(tmp_path: Path):
    done = walk(tmp_path)
    assert done.returncode == 1
    assert "docker is not installed. Install Docker" in done.stdout


@pytest.mark.parametrize(
    ("says", "hint"),
    [
        ("Cannot connect to the Docker daemon at unix:///var/run/docker.sock", "Start Docker."),
        ("Bind for 0.0.0.0:6443 failed: port is already allocated", "change kind-config.yaml"),
        ('node(s) already exist for a cluster with the name "mcpace"', "kind delete cluster --name mcpace"),
        ("failed to pull image kindest/node:v9", "name another one in KIND_NODE_IMAGE"),
    ],
)
def test_what_a_tool_says_becomes_what_to_do(tmp_path: Path, says: str, hint: str):
    tool(tmp_path, "docker", says, code=1 if "daemon" in says else 0)
    tool(tmp_path, "kind", says)
    done = walk(tmp_path)
    assert done.returncode == 1
    assert says in done.stdout.replace("\n", "")
    assert hint in done.stdout


def test_the_real_kind_takes_our_configuration_as_far_as_docker(tmp_path: Path):
    (tmp_path / "kind").symlink_to(program("kind"))
    tool(tmp_path, "docker", "Cannot connect to the Docker daemon")
    done = subprocess.run(
        [program("kind"), "create", "cluster", "--config", str(ROOT / "kind-config.yaml")],
        env={"PATH": str(tmp_path), "HOME": str(tmp_path), "KIND_EXPERIMENTAL_PROVIDER": "docker"},
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode != 0
    assert "docker" in done.stderr.lower()
    assert "unable to decode config" not in done.stderr
    assert yaml.safe_load((ROOT / "kind-config.yaml").read_text())["name"] == "mcpace"
