"""The images hold what runs in pods, and nothing that only people's commands need."""

from __future__ import annotations

import functools
import re
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions

import pytest
from tests.kit.installed import UV
from tests.kit.programs import ROOT

DOCKERFILE = (ROOT / "Dockerfile").read_text()
(LEFT_OUT,) = re.findall(r'^ENV LEFT_OUT="(.*)"$', DOCKERFILE, re.MULTILINE)
EXPORTS = {
    re.search(r"--extra (\w+)", flags)[1]: flags for flags in re.findall(r"uv export (.*?) -o ", DOCKERFILE)
}
"""Extra of an image -> how the Dockerfile asks for its packages."""
BLOCKED = """
import sys
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {names!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Missing())
"""


@functools.cache
def packages(flags: str) -> frozenset[str]:
    """What the lock names for an image."""
    done = subprocess.run(
        [UV, "export", "--offline", "--no-hashes", *flags.split()],
        cwd=ROOT, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return frozenset(re.findall(r"^([a-z0-9-]+)(?:\[|==)", done.stdout, re.MULTILINE))


def flags(extra: str) -> str:
    return EXPORTS[extra].replace("$LEFT_OUT", LEFT_OUT)


def held(extra: str) -> frozenset[str]:
    return packages(flags(extra))


def left_out(extra: str) -> frozenset[str]:
    return packages(re.sub(r"--prune \S+", "", flags(extra))) - held(extra)


def without(extra: str, code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run code that finds no package which an image lacks."""
    names = {
        module
        for module, found in packages_distributions().items()
        if any(re.sub(r"[-_.]+", "-", name).lower() in left_out(extra) for name in found)
    }
    assert {"mcp", "rich"} <= names
    return subprocess.run(
        [sys.executable, "-c", BLOCKED.format(names=names) + code, *arguments],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip


@pytest.mark.parametrize("extra", ["traces", "operator"])
def test_an_image_holds_neither_the_official_client_nor_what_it_brings(extra: str) -> None:
    assert set(EXPORTS) == {"traces", "operator"}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    asked = {
        re.match("[a-z0-9-]+", each)[0]
        for each in (*project["dependencies"], *project["optional-dependencies"][extra])
    }
    pruned = set(re.findall(r"--prune (\S+)", flags(extra)))
    assert pruned == {"mcp", "rich"} | ({"kubernetes", "aiohttp"} if extra == "traces" else set())
    assert asked - held(extra) == pruned
    assert left_out(extra) >= {"httpx2", "starlette", "uvicorn", "pygments"}


IMPORT_ALL = """
import importlib, pkgutil
for package in {packages!r}:
    found = importlib.import_module(package)
    for each in pkgutil.walk_packages(found.__path__, package + "."):
        importlib.import_module(each.name)
import mcpace_cli.__main__
"""


@pytest.mark.parametrize(
    ("extra", "parts"),
    [("traces", ["mcpace_sidecar"]), ("operator", ["mcpace_operator"])],
)
def test_what_runs_in_pods_needs_nothing_that_its_image_lacks(extra: str, parts: list[str]) -> None:
    done = without(extra, IMPORT_ALL.format(packages=parts))
    assert done.returncode == 0, done.stderr


def test_helm_test_types_a_command_that_the_image_has() -> None:
    pod = (ROOT / "charts/mcpace/templates/tests/pod.yaml").read_text()
    (command,) = re.findall(r"args:\n +- (\w+)\n", pod)
    code = "from mcpace_cli.__main__ import main; main()"
    done = without("traces", code, command, "http://127.0.0.1:1/mcp", "get-weather", "city=Oslo")
    assert done.returncode == 2
    assert done.stderr.startswith("mcpace: http://127.0.0.1:1/mcp: "), done.stderr


def test_what_an_image_lacks_is_named_with_the_command_that_brings_it() -> None:
    code = "from mcpace_cli.__main__ import main; main()"
    url = "http://127.0.0.1:1/mcp"
    for arguments in (
        ("version",),
        ("run", "--", "cat"),
        ("tools", url),
        ("call", url),
        ("init", "--from", url),
        ("top",),
        ("check", "weather"),
    ):
        done = without("traces", code, *arguments)
        assert done.returncode == 2, (arguments, done.stdout)
        (name,) = re.findall("^mcpace: this needs ([a-z0-9_]+), ", done.stderr)
        assert done.stderr == (
            f"mcpace: this needs {name}, which the images leave out; `pip install .` in a checkout brings it\n"
        ), done.stderr
