"""What is documented is what is emitted: conditions, Events, metrics with their labels, errors.

Whatever emits one of these takes it from a table or an enum, from which the reference is made. Here the
code is read for places that do not, and for entries that nothing emits.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.kit.programs import ROOT

from mcpace_operator.health import METRICS, registry
from mcpace_operator.status.reasons import Reason, Type
from mcpace_sidecar.call import refusals
from mcpace_sidecar.telemetry.metrics import COUNTED_ELSEWHERE, COUNTERS, GAUGES

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
        words = member.value.holds_when if isinstance(member, Type) else member.value
        assert f"| `{member.name}` | {words} |" in REFERENCE, member
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
    for row in refusals.TABLE:
        if row.label:
            assert len(COUNTERS[row.metric][1]) == 1, f"{row.metric}: other labels than the documented"
    counted |= {row.metric for row in refusals.TABLE if row.metric}
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


CALLS = [path for path in SIDECAR if path.parent.name == "call"]
REASONS = {name: value for name, value in vars(refusals).items() if isinstance(value, refusals.Reason)}


def raised(error: str, files: list[Path]) -> Iterator[tuple[str, list[ast.expr]]]:
    """Where such an error is made, and with what."""
    for where, node in nodes(files):
        if isinstance(node, ast.Call) and called(node) == error:
            yield where, node.args


def constant(node: ast.expr) -> object:
    return node.value if isinstance(node, ast.Constant) else None


def test_every_reason_to_say_no_is_in_the_one_table_and_the_table_in_the_reference():
    table = REFERENCE[REFERENCE.index("## Errors of the sidecar") : REFERENCE.index("## The admin port")]
    rows = [*REASONS.values(), *refusals.OF_HTTP.values(), *refusals.OF_SERVER.values()]
    assert set(refusals.TABLE) == set(rows)
    assert len(refusals.TABLE) == len(rows), "a row stands twice"
    for row in refusals.TABLE:
        assert f"| {row.code} |" in table, row.when
        assert f"| {row.when} |" in table, row.when
        if row.metric:
            assert row.metric in COUNTERS, row.metric


def test_nothing_is_refused_but_for_a_reason_of_the_table():
    made = 0
    for where, (reason, *_) in raised("Refusal", CALLS):
        made += 1
        name = reason.attr if isinstance(reason, ast.Attribute) else ""
        of_table = isinstance(reason, ast.Subscript) or (
            isinstance(reason, ast.Name) and "refusals.py" in where
        )
        assert of_table or name in REASONS, f"{where}: write a reason of refusals.py"
    assert made > 15
    elsewhere = [
        where
        for where, _ in raised("error_body", SIDECAR)
        if "call/refusals.py" not in where and "/stdio/" not in where  # which is a server itself
    ]
    assert elsewhere == [], "errors are worded by a Refusal alone"
    named = {
        node.attr if isinstance(node, ast.Attribute) else node.id
        for _, node in nodes(CALLS)
        if isinstance(node, ast.Attribute)
        or (isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load))
    }
    assert sorted(set(REASONS) - named) == [], "nothing is refused for these reasons"


def test_what_is_raised_of_a_clients_http_has_its_row():
    statuses = {reason: row.http for reason, row in refusals.OF_HTTP.items()}
    client = [path for path in SIDECAR if path.parent.name == "http" and path.stem != "client"]
    found = {}
    for where, (status, reason, *_) in raised("ProtocolError", client):
        if constant(status) != 502:
            found[constant(reason)] = constant(status)
            assert statuses.get(str(constant(reason))) == constant(status), f"{where}: no row has these"
    assert set(found) == set(statuses), "nothing raises these"


def test_what_is_raised_of_the_servers_answer_has_its_row():
    paths = [path for path in SIDECAR if path.parent.name in ("http", "call")]
    found = {constant(reason) for _, (reason, *_) in raised("UpstreamError", paths)}
    assert found == set(refusals.OF_SERVER)
