"""What is documented is what is emitted: conditions, Events, metrics with their labels, errors.

Whatever emits one of these takes it from a table or an enum, from which the reference is made. Here the
code is read for places that do not, and for entries that nothing emits.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.conftest import ROOT

from mcpace_operator.health import METRICS, registry
from mcpace_operator.status.reasons import Reason, Type
from mcpace_sidecar.telemetry.metrics import COUNTED_ELSEWHERE, COUNTERS, GAUGES

pytestmark = pytest.mark.interpreted

REFERENCE = (ROOT / "docs/reference.md").read_text()
OPERATOR = sorted((ROOT / "operator/mcpace_operator").rglob("*.py"))
SIDECAR = sorted((ROOT / "sidecar/mcpace_sidecar").rglob("*.py"))
TOLD = {"Condition", "Trouble", "News"}
LABELS = {name: set(filter(None, labels.split(", "))) for name, (_, labels) in COUNTED_ELSEWHERE.items()} | {
    name: set(labels) for name, (_, labels) in GAUGES.items()
}  # fmt: skip


def nodes(files: list[Path]) -> Iterator[tuple[str, ast.AST]]:
    """Every part of the code, with where it is."""
    for path in files:
        for node in ast.walk(ast.parse(path.read_text())):
            yield f"{path.relative_to(ROOT)}:{getattr(node, 'lineno', 0)}", node


def called(node: ast.Call) -> str:
    function = node.func
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


def members(kind: type[Type] | type[Reason]) -> set[str]:
    """The members of an enum that the operator's code names."""
    return {
        node.attr
        for _, node in nodes(OPERATOR)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == kind.__name__
    }  # fmt: skip


def test_a_condition_and_an_event_are_told_by_a_member_of_the_documented_ones():
    found = 0
    for where, node in nodes(OPERATOR):
        if isinstance(node, ast.Call) and called(node) in TOLD:
            found += 1
            told = [node.args[0]] if node.args else []
            told += [keyword.value for keyword in node.keywords if keyword.arg in ("type", "reason")]
            assert not any(isinstance(word, ast.Constant) for word in told), (
                f"{where}: write a member of the enum"
            )
    assert found > 30


@pytest.mark.parametrize("kind", [Type, Reason])
def test_every_type_and_reason_is_documented_and_every_documented_one_is_emitted(kind):
    for member in kind:
        assert f"| `{member.name}` | {member.value} |" in REFERENCE, member
    assert {member.name for member in kind} == members(kind)


def test_every_metric_of_the_operator_is_documented():
    documented = {family.name for metric in METRICS for family in metric.describe()}
    emitted = {family.name for family in registry.collect() if family.name.startswith("mcp")}
    assert emitted == documented
    for metric in METRICS:
        (family,) = metric.describe()
        name = f"{family.name}_total" if family.type == "counter" else family.name
        assert f"| `{name}` | {', '.join(metric._labelnames)} |" in REFERENCE


def test_every_counter_of_the_sidecar_is_counted_with_its_documented_labels():
    counted = set()
    for where, node in nodes(SIDECAR):
        if not (isinstance(node, ast.Call) and called(node) == "count" and node.args):
            continue
        name, *labels = node.args
        if isinstance(name, ast.Constant) and str(name.value).startswith("mcp"):
            counted.add(name.value)
            assert name.value in COUNTERS, f"{where}: {name.value} is not documented"
            assert len(labels) == len(COUNTERS[name.value][1]), f"{where}: other labels than the documented"
    assert len(counted) >= 8
    for name, (_, labels) in COUNTERS.items():
        assert f"| `{name}_total` | {', '.join(labels)} |" in REFERENCE


def test_every_gauge_of_the_sidecar_has_its_documented_labels():
    seen = set()
    for where, node in nodes(SIDECAR):
        if not (isinstance(node, ast.Tuple) and len(node.elts) == 3 and isinstance(node.elts[1], ast.Dict)):
            continue
        name, labels, _ = node.elts
        assert isinstance(labels, ast.Dict)
        if isinstance(name, ast.Constant) and str(name.value).startswith("mcp"):
            seen.add(name.value)
            keys = {key.value for key in labels.keys if isinstance(key, ast.Constant)}
            assert name.value in LABELS, f"{where}: {name.value} is not documented"
            assert keys == LABELS[name.value], f"{where}: other labels than the documented"
    assert len(seen) > 15
    for name, labels in LABELS.items():
        rows = [
            line
            for line in REFERENCE.splitlines()
            if line.startswith((f"| `{name}` |", f"| `{name}_total` |"))
        ]
        (row,) = rows
        assert {word.strip() for word in row.split("|")[2].split(",") if word.strip()} == labels, name


def errors() -> str:
    return REFERENCE[REFERENCE.index("## Errors of the sidecar") : REFERENCE.index("## The admin port")]


def test_every_code_of_an_error_is_documented():
    table, found = errors(), set()
    for where, node in nodes(SIDECAR):
        value = None
        if (
            isinstance(node, ast.UnaryOp)
            and isinstance(node.op, ast.USub)
            and isinstance(node.operand, ast.Constant)
        ):
            value = -node.operand.value if isinstance(node.operand.value, int) else None
        elif isinstance(node, ast.Constant) and type(node.value) is int:
            value = node.value
        if (
            value is not None
            and (-32800 < value <= -32000 or value in range(40000, 60000, 100))
            and "config" not in where
        ):
            found.add(value)
    ours = {code for code in found if code not in NOT_ERRORS}
    assert {-32700, -32600, -32602, -32603, 42900, 50300} <= ours
    assert sorted(code for code in ours if f"| {code} |" not in table) == []


NOT_ERRORS = {50_000, 50_400}
"""Numbers of the code that are sizes."""


def test_every_http_status_of_a_refusal_is_documented():
    table = errors()
    statuses = set()
    for _, node in nodes([path for path in SIDECAR if path.parent.name in ("call", "identity")]):
        arguments = (
            node.args if isinstance(node, ast.Call) else node.elts if isinstance(node, ast.Tuple) else []
        )
        for word in arguments:
            if isinstance(word, ast.Constant) and type(word.value) is int and 400 <= word.value < 600:
                statuses.add(word.value)
    assert {401, 403, 404, 405, 415} <= statuses
    assert sorted(status for status in statuses if f"| {status * 100} |" not in table) == []
