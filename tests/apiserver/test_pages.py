"""The pages of the documentation whose commands are for a cluster: typed in order, before a real API server."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.kit.pages import BEFORE_A_CLUSTER, blocks
from tests.kit.programs import ROOT
from tools.cluster.binaries import program
from tools.cluster.kubectl import Kubectl


@pytest.fixture
def reader(api: Kubectl, tmp_path: Path) -> Iterator[Path]:
    """A folder to type in; what was made in the cluster goes afterwards."""
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    yield tmp_path
    api.ok("delete", "mcpservers", "--all", "-A")
    api.ok("delete", "secret", "weather-pro", "--ignore-not-found")


@pytest.mark.parametrize("page", BEFORE_A_CLUSTER)
def test_whoever_follows_the_page_gets_what_it_says(api: Kubectl, reader: Path, page: str) -> None:
    path = os.pathsep.join((str(program("kubectl").parent), os.environ["PATH"]))
    said = ""
    for block in blocks(page):
        if block.saved is not None:
            (reader / block.saved).write_text(block.text)
        elif block.language == "bash":
            done = subprocess.run(
                ["bash", "-ec", block.text], cwd=reader,
                env=os.environ | {"PATH": path, "KUBECONFIG": str(api.kubeconfig)},
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            )  # fmt: skip
            assert done.returncode == 0, f"{block.text}\n{done.stdout}"
            said += done.stdout
    assert "mcpserver.mcpace.dev/weather created" in said
    assert api.get("mcpserver/weather")
