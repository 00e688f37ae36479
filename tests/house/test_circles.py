"""Modules know those below them: nowhere is there a circle of imports, not even one for types alone."""

import ast
from pathlib import Path

from tests.kit.programs import ROOT

SIDECAR = ROOT / "sidecar"
PACKAGES = ("sidecar", "operator", "cli", "tools", "benchmarks")
LONGEST = 400
"""Lines of a module."""


def imported(path: Path) -> set[Path]:
    """The modules of the sidecar that a module names in imports, wherever they stand in it."""
    found: set[Path] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        names = []
        if isinstance(node, ast.ImportFrom) and node.module is not None:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        for name in names:
            module = SIDECAR.joinpath(*name.split(".")).with_suffix(".py")
            if module.is_file():
                found.add(module)
    return found


GRAPH = {path: imported(path) for path in sorted((SIDECAR / "mcpace_sidecar").rglob("*.py"))}


def circle(graph: dict[Path, set[Path]]) -> list[str]:
    """The modules that import each other in turn; none where there is no circle."""
    left = {path: set(others) & graph.keys() for path, others in graph.items()}
    while True:
        ends = {path for path, others in left.items() if not others}
        if not ends:
            break
        left = {path: others - ends for path, others in left.items() if path not in ends}
    way: list[Path] = []
    at = next(iter(left), None)
    while at is not None and at not in way:
        way.append(at)
        at = next(iter(sorted(left[at])))
    return [path.stem for path in way[way.index(at) :]] if at is not None else []


def test_a_circle_is_found():
    one, two, three = Path("one.py"), Path("two.py"), Path("three.py")
    assert circle({one: {two}, two: {three}, three: {two}}) == ["two", "three"]
    assert circle({one: {two}, two: {three}, three: set()}) == []


def test_no_module_of_the_sidecar_imports_one_that_imports_it():
    assert circle(GRAPH) == []


def test_no_module_is_longer_than_one_reads_at_once():
    modules = [path for folder in PACKAGES for path in (ROOT / folder).rglob("*.py")]
    assert len(modules) > len(GRAPH)
    lengths = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in modules}
    assert {name: length for name, length in lengths.items() if length > LONGEST} == {}
