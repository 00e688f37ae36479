"""The version stands in pyproject.toml; wherever else it is written, it is the same."""

import re
import tomllib

import pytest
import yaml
from tests.kit.programs import ROOT

from mcpace_sidecar import __version__

VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
WRITTEN = (
    "README.md",
    "CONTRIBUTING.md",
    "docs",
    "examples",
    "charts",
    "tests",
    "benchmarks",
    "sidecar",
    "operator",
    "cli",
)
TAG = re.compile(r"mcpace/(?:sidecar|operator|example-weather):(\d+\.\d+\.\d+)")


def test_the_package_and_the_chart_have_the_projects_version():
    chart = yaml.safe_load((ROOT / "charts/mcpace/Chart.yaml").read_text())
    assert {__version__, chart["version"], chart["appVersion"]} == {VERSION}


@pytest.mark.parametrize("place", WRITTEN)
def test_every_image_that_is_named_has_the_projects_version(place):
    path = ROOT / place
    files = (
        [path]
        if path.is_file()
        else [f for f in path.rglob("*") if f.suffix in {".md", ".py", ".yaml", ".ambr", ".txt"}]
    )
    found = {}
    for file in files:
        for version in TAG.findall(file.read_text(errors="replace")):
            if version != VERSION:
                found[str(file.relative_to(ROOT))] = version
    assert not found
