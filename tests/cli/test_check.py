"""`mcpace check`: line, column and remedy of whatever is wrong in a manifest."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.kit.laptop import MCPACE, mcpace
from tests.kit.programs import ROOT
from tests.kit.violations import SCHEMA, document, fields, violations
from tests.kit.wrong import WRONG

from mcpace_cli.check import Found, judge
from mcpace_sidecar.contract.config.message import dotted

KEY_WORDS = (
    "this is no key: write at most 63 letters, digits and '-', '_', '.', with a letter or digit at both ends;"
    " a domain and '/' may stand before it"
)
HEAD = "apiVersion: mcpace.dev/v1alpha1\nkind: McpServer\nmetadata: {name: weather}\n"


def found(tmp_path: Path, text: str) -> list[Found]:
    path = tmp_path / "manifest.yaml"
    path.write_text(text)
    return judge(path).found


def pointed(text: str, problem: Found) -> str:
    """What stands in the file where a problem is said to be."""
    return text.splitlines()[problem.line - 1][problem.column - 1 :]


@pytest.mark.parametrize(("spec", "words"), [case[1:] for case in WRONG], ids=[case[0] for case in WRONG])
@pytest.mark.parametrize("flow", [False, True], ids=["in lines", "in braces"])
def test_every_wrong_manifest_is_found_with_its_line_its_column_and_what_to_write(
    tmp_path: Path, spec: dict[str, Any], words: str, flow: bool
):
    whole = {k: v for k, v in ({"image": "weather:1"} | spec).items() if v is not None}
    in_lines = yaml.safe_dump({"spec": whole}, width=10_000)
    in_braces = f"spec: {yaml.safe_dump(whole, default_flow_style=True, width=10_000)}"
    text = HEAD + (in_braces if flow else in_lines)
    problems = found(tmp_path, text)
    assert problems
    for each in problems:
        assert each.severity == "error"
        assert each.path.startswith("spec")
        assert each.message
        written = pointed(text, each)
        assert written, each
        field = [
            part for part in each.path.replace("]", "").replace("[", ".").split(".") if not part.isdigit()
        ][-1]
        value = whole_at(whole, each.path)
        known = (field, str(value), "spec", "{", "[", "-", *whole, *_names(whole))
        assert written.lstrip("'\"").startswith(known), (each, written)


def _names(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [*value, *(name for part in value.values() for name in _names(part))]
    return [name for part in value for name in _names(part)] if isinstance(value, list) else []


def whole_at(spec: Any, path: str) -> Any:
    for each in path.removeprefix("spec").replace("]", "").replace("[", ".").split("."):
        if each:
            try:
                spec = spec[int(each) if isinstance(spec, list) else each]
            except (KeyError, IndexError, TypeError):
                return None
    return spec


def test_every_violation_of_every_field_is_found_at_its_place(tmp_path: Path):
    tried = 0
    for path, field in fields(SCHEMA):
        for value in violations(field):
            whole = document(path, value)
            text = yaml.safe_dump(whole)
            if "&id" in text or len(text) > 100_000:
                continue
            problems = found(tmp_path, text)
            tried += 1
            if path[0] in ("apiVersion", "kind"):
                assert problems, (path, value)
                continue
            assert any(each.path.startswith(dotted(path)) for each in problems), (path, value, problems)
            assert all(pointed(text, each) for each in problems)
    assert tried > 500


EXACT = """\
# A comment, so that lines are lines of the file.
apiVersion: mcpace.dev/v1alpha1
kind: McpServer
metadata:
  name: weather
spec:
  image: weather:1
  rateLimt: {}
  cache:
    tools:
      - name: get-weather
        ttl: 5 minutes
      - {name: forecast}
  clients: {apiKeys: [{tier: gold, secretRef: {name: s}}]}
  concurrency:
    repeatableTools: [a, b, a]
---
apiVersion: v1
kind: Secret
metadata: {name: s}
---
apiVersion: mcpace.dev/v1alpha1
kind: McpServer
metadata: {name: second, labels: {"a b": c}}
spec:
  port: "8000"
"""


def test_a_file_of_several_is_judged_whole_and_each_problem_is_a_line(tmp_path: Path):
    path = tmp_path / "manifest.yaml"
    path.write_text(EXACT)
    done = mcpace("check", path)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.splitlines() == [
        f"{path}:8:3: spec.rateLimt: there is no such field; did you mean rateLimits?",
        f"{path}:12:14: spec.cache.tools[0].ttl: write a duration such as 500ms, 30s, 5m, 1h or 1d",
        f"{path}:13:9: spec.cache.tools[1]: write a ttl, invalidates, or both",
        f"{path}:16:29: spec.concurrency.repeatableTools[2]: the name 'a' stands twice; write each name once",
        f'{path}:24:35: metadata.labels["a b"]: {KEY_WORDS}',
        f"{path}:25:1: spec.image: is required, and missing; only `mcpace run` does without",
        f"{path}:26:9: spec.port: write a whole number, without quotes: 8000",
        "Not looked at: Secret s",
    ]


def test_a_valid_file_is_said_to_be_and_rules_that_do_nothing_are_warnings(tmp_path: Path):
    path = tmp_path / "manifest.yaml"
    path.write_text(
        HEAD + "spec:\n  image: x\n  cache:\n    tools:\n      - {name: put, invalidates: [get]}\n"
    )
    done = mcpace("check", path)
    assert done.returncode == 0
    assert done.stdout == f"{path}: McpServer weather is valid\n"
    assert done.stderr.startswith(
        f"{path}:8:35: warning: spec.cache.tools[0].invalidates[0]: nothing of 'get' is kept"
    )


@pytest.mark.parametrize("form", ["json", "yaml"])
def test_programs_get_the_same(tmp_path: Path, form: str):
    wrong, right = tmp_path / "wrong.yaml", tmp_path / "right.yaml"
    wrong.write_text(HEAD + "spec:\n  image: 5\n")
    right.write_text(HEAD + "spec:\n  image: x\n")
    done = mcpace("check", wrong, right, "--output", form)
    assert done.returncode == 1
    assert done.stderr == ""
    told = (json.loads if form == "json" else yaml.safe_load)(done.stdout)
    assert told["valid"] is False
    assert [(each["file"], each["name"], each["valid"]) for each in told["servers"]] == [
        (str(wrong), "weather", False),
        (str(right), "weather", True),
    ]
    assert told["problems"] == [
        {
            "file": str(wrong),
            "line": 5,
            "column": 10,
            "server": "weather",
            "path": "spec.image",
            "message": 'write text, in quotes: "5"',
            "severity": "error",
        }
    ]


@pytest.mark.parametrize(
    ("text", "line", "column", "words"),
    [
        ("", 1, 1, "it is empty"),
        ("apiVersion: v1\nkind: Secret\nmetadata: {name: s}\n", 1, 1, "there is no McpServer in it"),
        ("- 1\n", 1, 1, "write fields such as `kind:`, not a list"),
        (HEAD + "spec:\n  image: x\n  image: y\n", 6, 3, "the key 'image' stands twice"),
        (HEAD + "spec:\n\timage: x\n", 5, 1, "is not YAML: found character '\\t'"),
        (HEAD.replace("v1alpha1", "v1"), 1, 13, "write mcpace.dev/v1alpha1, not mcpace.dev/v1"),
        (HEAD.replace("McpServer", "MCPServer"), 2, 7, "write McpServer, not MCPServer"),
        (HEAD.replace("mcpace.dev/v1alpha1", "v1"), 1, 13, "write mcpace.dev/v1alpha1, not v1"),
        (HEAD.partition("\n")[2], 1, 1, "is required, and missing"),
        (HEAD, 1, 1, "is required, and missing"),
        ("apiVersion: v1\nkind: List\nitems:\n- " + HEAD.replace("\n", "\n  ") + "spec: {image: x, port: x}\n", 7, 26, "write a whole number"),
        (HEAD + "spec:\n  <<: &a {image: 5}\n", 5, 18, 'write text, in quotes: "5"'),
    ],
)  # fmt: skip
def test_what_is_no_manifest_is_said_at_its_line(
    tmp_path: Path, text: str, line: int, column: int, words: str
):
    first = found(tmp_path, text)[0]
    assert (first.line, first.column) == (line, column), first
    assert words in first.message


def test_a_manifest_may_come_by_standard_input():
    command = [*MCPACE, "check", "-"]
    done = subprocess.run(command, input=HEAD, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert done.stderr == "standard input:1:1: spec: is required, and missing\n"


def test_a_file_that_is_not_there_is_another_matter_than_a_wrong_one(tmp_path: Path):
    done = mcpace("check", tmp_path / "nowhere.yaml")
    assert done.returncode == 2
    assert "No such file" in done.stderr
    assert mcpace("check").returncode == 2


def test_the_examples_are_valid():
    paths = [path for path in (ROOT / "examples").rglob("*.yaml") if "kind: McpServer" in path.read_text()]
    assert paths
    assert mcpace("check", *paths).returncode == 0


def test_a_character_that_no_yaml_holds_is_found_where_it_stands(tmp_path: Path):
    (problem,) = found(tmp_path, f"{HEAD}spec: {{image: a\x1b[31m}}\n")
    assert (problem.line, problem.column) == (4, 16)
    assert problem.message == "is not YAML: it holds the character U+001B; take it out"


def test_more_annotations_than_an_api_server_keeps_are_refused(tmp_path: Path):
    long = "x" * (256 << 10)
    head = HEAD.replace("{name: weather}", f"{{name: weather, annotations: {{a: {long}}}}}")
    (problem,) = found(tmp_path, f"{head}spec: {{image: x}}\n")
    assert problem.path == "metadata.annotations"
    assert problem.message == "write at most 256 KiB, names and texts together"
    assert found(tmp_path, f"{head}spec: {{image: x}}\n".replace("xx", "x", 1)) == []
