"""The recipes of CONTRIBUTING.md lead somewhere, and whoever leaves out a step of one is told by a test.

A recipe names files by links, what is in them in backticks, and the test that fails without a step.
"""

from __future__ import annotations

import ast
import inspect
import re
import tomllib
from dataclasses import fields
from importlib import import_module
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
from tests.kit.mcpserver import everything
from tests.kit.programs import ROOT

from mcpace_cli.__main__ import mcpace
from mcpace_operator.children import children
from mcpace_operator.cluster.kinds import KINDS
from mcpace_operator.status import conditions
from mcpace_operator.status.live import Live
from mcpace_operator.status.reasons import Type
from mcpace_sidecar.call import refusals
from mcpace_sidecar.contract.config.rate_limits import RateLimits, Tier
from mcpace_sidecar.contract.rules import Rule
from mcpace_sidecar.identity.client import Client
from mcpace_sidecar.limits.plan import LimitPlan
from mcpace_sidecar.mcp.methods import LIMITED
from mcpace_sidecar.telemetry.metrics import COUNTED_ELSEWHERE, COUNTERS, GAUGES, PER_TOOL
from mcpace_sidecar.telemetry.tally import Tally

PAGE = (ROOT / "CONTRIBUTING.md").read_text()
RECIPES = dict(re.findall(r"^### (.+?)\n(.*?)(?=^##)", PAGE, re.MULTILINE | re.DOTALL))
LINK = re.compile(r"\[([^]]+)\]\(([^)]+)\)")
SIDECAR = ROOT / "sidecar/mcpace_sidecar"
OPERATOR = ROOT / "operator/mcpace_operator"


def steps(recipe: str) -> list[tuple[list[Path], list[str], list[tuple[str, Path]]]]:
    """Of each step: the files, the names in backticks, the tests."""
    rows = [row.strip("| ").split(" | ") for row in RECIPES[recipe].splitlines() if row.startswith("|")][2:]
    found = []
    for row in rows:
        files = [ROOT / target for _, target in LINK.findall(row[1])]
        tests = [(name, ROOT / target) for name, target in LINK.findall(" ".join(row[3:]))]
        found.append((files, re.findall(r"`([^`]+)`", row[2]), tests))
    return found


def defined(path: Path) -> set[str]:
    """What a module defines or takes from elsewhere, and what its classes do: `_plan`, `LimitPlan._plan`."""
    names: set[str] = set()

    def look(nodes: list[ast.stmt], within: str) -> None:
        for node in nodes:
            if isinstance(node, ast.ImportFrom):
                names.update(alias.name for alias in node.names)
            elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                names.update((node.name, within + node.name))
                look(node.body, f"{node.name}." if isinstance(node, ast.ClassDef) else within)
            for target in getattr(node, "targets", [getattr(node, "target", None)]):
                if isinstance(target, ast.Name):
                    names.update((target.id, within + target.id))
                elif isinstance(target, ast.Attribute):
                    names.add(target.attr)

    look(ast.parse(path.read_text()).body, "")
    return names


def test_there_are_eight():
    assert list(RECIPES) == [
        "A field of a tier", "A child", "A metric", "An alert or a panel", "An admission rule", "A counted method", "A command",
        "A condition",
    ]  # fmt: skip
    assert all(len(steps(recipe)) >= 4 for recipe in RECIPES)


@pytest.mark.parametrize("recipe", RECIPES)
def test_what_a_recipe_names_is_there(recipe: str):
    for files, names, tests in steps(recipe):
        assert all(path.is_file() for path in files), files
        known = set(chain.from_iterable(defined(path) for path in files if path.suffix == ".py"))
        for name in names:
            if re.fullmatch(r"[A-Z]\w*(\.\w+)?", name) and name not in ("None", "REASON"):
                assert name in known, f"{name} in {files}"
            elif not name.startswith("pytest "):
                words = set(re.findall(r"\w+", name)) - {"self", "REASON", "words", "label"}
                text = " ".join(path.read_text() for path in files)
                assert all(word in text for word in words), f"{name} in {files}"
        for name, path in tests:
            assert f"def {name}(" in path.read_text(), f"{name} in {path}"


def test_the_rooms_that_are_drawn_are_there():
    drawn = PAGE[PAGE.index("## The path of a call") : PAGE.index("## Recipes")]
    places = re.findall(r"\b([a-z]+/[a-z_]*)", "".join(re.findall(r"```\n(.*?)```", drawn, re.DOTALL)))
    assert len(places) > 20
    for place in places:
        folder = SIDECAR / place, OPERATOR / place
        files = [path.with_suffix(".py") for path in folder if not place.endswith("/")]
        assert place == "/stats" or any(path.exists() for path in (*folder, *files)), place


def test_the_tables_of_rooms_are_the_layers_that_are_checked():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    contracts = project["tool"]["importlinter"]["contracts"]
    for package in ("mcpace_sidecar", "mcpace_operator"):
        (layers,) = [each["layers"] for each in contracts if each.get("containers") == [package]]
        rooms = re.split(r" \| |\n", "\n".join(layers))
        section = PAGE[
            PAGE.index("The sidecar's folders" if "sidecar" in package else "The operator's rooms") :
        ]
        rows = re.findall(r"^\| (`.+?) \|", section[: section.index("\n\n", 300)], re.MULTILINE)
        listed = [name.strip("`/") for row in rows for name in row.split(", ")]
        assert sorted(listed) == sorted(rooms)


def test_of_the_sidecars_rooms_the_operator_may_import_the_contract_and_the_errors():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    contracts = {each["name"]: each for each in project["tool"]["importlinter"]["contracts"]}
    layers = contracts["the sidecar's rooms, one above the other"]["layers"]
    rooms = {f"mcpace_sidecar.{room}" for layer in layers for room in layer.split(" | ")}
    forbidden = contracts["of the sidecar the operator knows the contract"]["forbidden_modules"]
    assert sorted(forbidden) == sorted(rooms - {"mcpace_sidecar.contract", "mcpace_sidecar.errors"})


# -- what fails where a step was left out


def test_every_field_of_a_tier_changes_what_a_call_takes():
    usual: dict[str, Any] = {"name": "free", "requestsPerMinute": 10}
    for name, field in Tier.model_fields.items():
        if name != "name":
            more = usual | {str(field.alias): usual.get(str(field.alias), 0) + 1}
            before, after = (_charges(tier) for tier in (usual, more))
            assert before != after, f"{name} changes nothing of what a call takes"


def _charges(tier: dict[str, Any]) -> list[tuple[Any, ...]]:
    plan = LimitPlan(RateLimits.model_validate({"tiers": [tier]}))
    charges = plan.charges(Client("c", "free"), None).items
    return [(each.key, each.kind, each.capacity, each.amount, each.rate) for each in charges]


def test_every_file_of_a_child_is_called():
    """Whatever its functions are called: what they make of a server that has everything is among its children."""
    context = everything()
    among = [(child["kind"], child["metadata"]["name"]) for child in children(context)]
    made = 0
    for path in sorted((OPERATOR / "children").glob("[a-z]*.py")):
        module = import_module(f"mcpace_operator.children.{path.stem}")
        for name, function in inspect.getmembers(module, inspect.isfunction):
            annotations = [each.annotation for each in inspect.signature(function).parameters.values()]
            if function.__module__ != module.__name__ or name[0] == "_" or annotations != ["Context"]:
                continue
            child = function(context)
            if isinstance(child, dict) and "kind" in child:
                made += 1
                found = child["kind"], child["metadata"]["name"]
                assert found in among, f"nobody asks for what {path.name} makes in {name}"
    assert made == len(among)


BUILT_IN = {"", "apps", "autoscaling", "batch", "networking.k8s.io", "policy", "rbac.authorization.k8s.io"}


def test_a_cluster_without_the_optional_kinds_gets_none_of_them():
    for child in children(everything(kinds=())):
        group = child["apiVersion"].rpartition("/")[0]
        words = f"{child['kind']}: `optional` in KINDS, and its function asks context.kinds"
        assert group in BUILT_IN, words


def test_every_child_is_of_a_kind_of_the_table():
    written = {
        kind
        for path in (OPERATOR / "children").glob("*.py")
        for kind in re.findall(r'^\s+"kind": "(\w+)",$', path.read_text(), re.MULTILINE)
    }
    made = {child["kind"] for child in children(everything())}
    assert made <= {name for name, kind in KINDS.items() if kind.child}
    assert written - {"PodList"} <= set(KINDS), "a row for each kind that is written"
    for child in children(everything()):
        assert child["apiVersion"] == KINDS[child["kind"]].api


def test_every_counter_is_counted_and_every_gauge_read():
    text = "".join(path.read_text() for path in SIDECAR.rglob("*.py"))
    given = {row.metric for row in refusals.TABLE}
    for name in (*COUNTERS, *GAUGES, *COUNTED_ELSEWHERE):
        assert text.count(f'"{name}"') > 1 or name in given, f"{name} is shown, and nothing says a number"
    assert set(PER_TOOL) <= {name for name, (_, labels) in COUNTERS.items() if labels[:1] == ("tool",)}


def test_whatever_is_counted_of_a_tool_is_added_to_what_was():
    one, sum_ = Tally(), Tally()
    one.count("success", 0.5, "memory", 10, 20)
    sum_.add(one)
    for name in Tally.__slots__:
        assert getattr(one, name), f"Tally.count does nothing with {name}"
        assert getattr(sum_, name) == getattr(one, name), f"Tally.add forgets {name}"


def test_the_reasons_that_a_counters_help_lists_are_those_of_the_table():
    for metric, beside in ((refusals.SHED, set()), (refusals.CONNECTIONS, {"answers", "slow", "streams"})):
        listed = COUNTERS[metric][0].rpartition(": ")[2].rstrip(".").split(", ")
        given = {row.label for row in refusals.TABLE if row.metric == metric}
        assert set(listed) == given | beside, f"the help of {metric} does not list what is counted as it"


def test_every_reason_to_say_no_is_given():
    used: set[str] = set()
    for path in SIDECAR.rglob("*.py"):
        for statement in ast.parse(path.read_text()).body:
            if not (isinstance(statement, ast.AnnAssign) and ast.unparse(statement.target) == "TABLE"):
                used |= {node.id for node in ast.walk(statement) if isinstance(node, ast.Name)
                         and isinstance(node.ctx, ast.Load)}  # fmt: skip
                used |= {node.attr for node in ast.walk(statement) if isinstance(node, ast.Attribute)}
    reasons = {name for name, value in vars(refusals).items() if isinstance(value, refusals.Reason)}
    assert reasons - used == set(), "these stand in the table, and nothing is refused for them"


def test_every_counted_method_has_its_limits_in_a_manifest():
    rules = [value for value in vars(RateLimits).values() if isinstance(value, Rule)]
    for method, kind in LIMITED.items():
        assert kind, f"{method} has a target, and no word for what is limited"
        assert f"{kind}s" in RateLimits.model_fields, (
            f"rateLimits has no list of {kind}s, as {method} wants"
        )
        assert RateLimits().of(kind) == ()
        assert any(f"self.{kind}s.all(" in each.cel for each in rules), f"a cost of a {kind} may be any"


def test_every_command_says_what_it_does_and_is_run_by_a_test():
    tests = "".join(
        path.read_text() for path in (ROOT / "tests").rglob("*.py") if path.parent.name != "house"
    )
    for name, command in mcpace.commands.items():
        assert command.help, name
        typed = rf'("mcpace_cli", |\*MCPACE, |mcpace, \[?|mcpace\(|done\()"{name}"'
        assert re.search(typed, tests), f"no test runs mcpace {name}"


def test_every_condition_is_judged_in_the_chain():
    judged = {judge.__name__ for judge in conditions.CHAIN}
    tree = ast.parse(Path(conditions.__file__).read_text())
    named: set[str] = set()
    for node in tree.body:
        if isinstance(node, ast.FunctionDef):
            types = set(re.findall(r"Type\.(\w+)", ast.unparse(node)))
            takes_seen = [each.arg for each in node.args.args] == ["seen"]
            assert not (types and takes_seen) or node.name in judged, f"{node.name} is in no chain"
            named |= types
    assert named == {kind.name for kind in Type}


def test_what_conditions_are_made_of_is_news_when_it_changes():
    told = {each.name for each in fields(Live)}
    read, news = (
        {node.attr for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Attribute)} & told
        for text in (
            Path(conditions.__file__).read_text(),
            inspect.getsource(Live.conditions.fget).replace("    ", "", 1).replace("\n    ", "\n"),
        )
    )
    assert read == news, "Live.conditions holds each attribute of Live that conditions.py reads"
