"""The version stands in pyproject.toml; wherever else it is written, it is the same, and one command makes it so."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from tests.kit.programs import ROOT
from tools import generate, version

from mcpace_sidecar import __version__

NEXT = "9.8.7"
IMAGE = re.compile(rb"mcpace/(?:sidecar|operator|example-[a-z]+):(\d+\.\d+\.\d+)")


@pytest.fixture
def raised(tmp_path: Path) -> Path:
    """The repository, with another version in pyproject.toml and nowhere else."""
    for name in ("pyproject.toml", *version.places()):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    project = tmp_path / "pyproject.toml"
    project.write_text(
        project.read_text().replace(f'\nversion = "{__version__}"', f'\nversion = "{NEXT}"', 1)
    )
    return tmp_path


def test_the_package_and_the_chart_have_the_projects_version():
    chart = yaml.safe_load((ROOT / "charts/mcpace/Chart.yaml").read_text())
    assert {__version__, chart["version"], chart["appVersion"]} == {version.version()}


def test_every_image_that_is_named_has_the_projects_version_and_its_file_is_looked_after():
    """Of all that is committed but what the chart rendered, which has a command of its own."""
    listed = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    for name in listed.splitlines():
        found = set() if name.endswith(".ambr") else set(IMAGE.findall((ROOT / name).read_bytes()))
        assert found <= {version.version().encode()}, name
        assert not found or name in generate.GENERATED, name


def test_a_new_version_is_written_everywhere_and_nothing_else_is(raised: Path):
    for name in version.places():
        before, after = (ROOT / name).read_text(), version.written(name, raised)
        changed = [
            (old, new)
            for old, new in zip(before.splitlines(), after.splitlines(), strict=True)
            if old != new
        ]
        assert changed, name
        for old, new in changed:
            assert new.replace(NEXT, version.version()) == old
