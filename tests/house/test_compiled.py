"""What mypyc does otherwise than Python without a word, kept out of what is compiled."""

import ast
from collections.abc import Iterator

from tests.kit.programs import ROOT

SIDECAR = ROOT / "sidecar/mcpace_sidecar"
TREES = {path: ast.parse(path.read_text()) for path in sorted(SIDECAR.rglob("*.py"))}
_BUILD = {
    ast.unparse(line.target): ast.literal_eval(line.value)
    for line in ast.parse((ROOT / "compile.py").read_text()).body
    if isinstance(line, ast.AnnAssign) and line.value is not None
}
COMPILED = {
    name: tree
    for path, tree in TREES.items()
    if (name := str(path.relative_to(SIDECAR).with_suffix(""))) not in _BUILD["INTERPRETED"]
    if name in _BUILD["ALSO"] or name.partition("/")[0] in _BUILD["ROOMS"]
}


def names(node: ast.AST) -> set[str]:
    """All names in an expression."""
    return {each.id for each in ast.walk(node) if isinstance(each, ast.Name)}


def classes(tree: ast.Module) -> Iterator[ast.ClassDef]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.ClassDef))


PROTOCOLS = {
    each.name
    for tree in TREES.values()
    for each in classes(tree)
    if any("Protocol" in names(base) for base in each.bases)
}


def test_no_default_of_a_class_is_of_a_protocols_type():
    """Such a default is not there: reading it raises AttributeError. It is to be set in `__init__`."""
    assert "Waiting" in PROTOCOLS
    found = [
        f"{name}: {each.name}.{line.target.id}"
        for name, tree in COMPILED.items()
        for each in classes(tree)
        for line in each.body
        if isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name) and line.value is not None
        if names(line.annotation) & PROTOCOLS
    ]
    assert found == []


def test_no_constant_is_a_tuple_of_floats_whose_length_is_part_of_its_type():
    """Such a constant is taken for one that is not set. `Final[tuple[float, ...]]` is."""
    found = [
        f"{name}: {ast.unparse(line.target)}"
        for name, tree in COMPILED.items()
        for line in tree.body
        if isinstance(line, ast.AnnAssign) and ast.unparse(line.annotation) == "Final"
        if isinstance(line.value, ast.Tuple)
        and all(isinstance(v, ast.Constant) and isinstance(v.value, float) for v in line.value.elts)
    ]
    assert found == []
