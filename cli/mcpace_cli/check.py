"""`mcpace check`: what an API server would have against a manifest, and where in the file that stands.

The verdict is the API server's: the models hold the schema, and each rule of theirs is the CEL's twin.
Beyond it, rules that would do nothing are said as warnings.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import click
import yaml

from mcpace_cli.manifest import Resource
from mcpace_cli.places import listed, place
from mcpace_cli.show import Format, plain, written
from mcpace_operator.resource.models import API_VERSION, GROUP, KIND, McpServerSpec
from mcpace_sidecar.call.settings import Settings
from mcpace_sidecar.contract.config import SidecarConfig, parse, parse_strictly, read_located
from mcpace_sidecar.contract.config.document import UnreadableError
from mcpace_sidecar.contract.config.message import DocumentError, Problem, dotted
from mcpace_sidecar.contract.nearest import Vocabulary
from mcpace_sidecar.contract.report import Finding
from mcpace_sidecar.contract.rules import Location
from mcpace_sidecar.errors import ConfigError
from mcpace_sidecar.mcp.catalog import Catalog
from mcpace_sidecar.server import findings

_STANDARD_INPUT: Final = Path("/dev/stdin")
_OF_SERVER: Final = ("UnknownTool", "UnknownPrompt", "UnknownArgument", "ToolWrites")
"""What is wrong for a server that was asked, and not unused alone."""
_NOT_KNOWN: Final = ("NobodyMayCall", "NobodyIsToldApart")
"""What depends on Secrets, which are the cluster's."""
_IMAGE: Final = ("spec", "image")


@dataclass(frozen=True, slots=True)
class Asked:
    """What the command line asks for."""

    manifests: tuple[Path, ...]
    output: Format


@dataclass(frozen=True, slots=True)
class Found:
    """One thing to mend, or to think about."""

    file: str
    line: int
    column: int
    server: str
    """Its name; empty for what is of no server."""
    path: str
    message: str
    severity: str = "error"
    """Or `warning`: an API server takes it."""

    def __str__(self) -> str:
        kind = "warning: " if self.severity == "warning" else ""
        path = f"{self.path}: " if self.path else ""
        return f"{self.file}:{self.line}:{self.column}: {kind}{path}{self.message}"


@dataclass(slots=True)
class Verdict:
    """What was found in some files."""

    servers: list[dict[str, Any]] = field(default_factory=list)
    """Each McpServer: file, line, namespace, name, and whether it is `valid`."""
    found: list[Found] = field(default_factory=list)
    others: list[str] = field(default_factory=list)
    """What else the files hold, which is not looked at."""

    @property
    def valid(self) -> bool:
        """Whether an API server would take all of it."""
        return all(each.severity == "warning" for each in self.found)


def run(asked: Asked, catalog: Catalog | None = None) -> int:
    """Say what is to be mended; the exit code is 1 where there is something. ConfigError.

    `catalog`: what the server lists whose manifest it is.
    """
    verdict = Verdict()
    for path in asked.manifests:
        _read(path, verdict, catalog)
    if asked.output != "table":
        told = {
            "valid": verdict.valid,
            "servers": verdict.servers,
            "problems": [asdict(each) for each in verdict.found],
        }
        click.echo(written(told, asked.output), nl=False)
        return int(not verdict.valid)
    for each in verdict.found:
        click.echo(plain(str(each)), err=True)
    for server in verdict.servers:
        if server["valid"]:
            click.echo(plain(f"{server['file']}: {KIND} {server['name']} is valid"))
    if verdict.others:
        click.echo(plain(f"Not looked at: {', '.join(verdict.others)}"), err=True)
    return int(not verdict.valid)


def judge(path: Path) -> Verdict:
    """What is to be mended in one file; ConfigError where there is none."""
    verdict = Verdict()
    _read(path, verdict, None)
    return verdict


def _read(path: Path, verdict: Verdict, catalog: Catalog | None) -> None:
    before = len(verdict.servers) + len(verdict.found)
    file, path = ("standard input", _STANDARD_INPUT) if str(path) == "-" else (str(path), path)
    try:
        documents = read_located(path)
    except UnreadableError as error:
        verdict.found.append(Found(file, error.line, error.column, "", "", error.words))
        return
    for document, node in documents:
        for each, its in listed(document, node):
            found = list(_document(file, each, its, verdict, catalog))
            verdict.found += sorted(found, key=lambda one: (one.line, one.column))
    if len(verdict.servers) + len(verdict.found) == before:
        words = f"there is no {KIND} in it" if documents else "it is empty"
        verdict.found.append(Found(file, 1, 1, "", "", words))


def _document(
    file: str, document: Any, node: yaml.Node, verdict: Verdict, catalog: Catalog | None
) -> Iterator[Found]:
    """What is to be mended in one document; the verdict learns of it."""

    def found(name: str, problem: Problem, severity: str = "error") -> Found:
        at = place(node, problem.place, of_name=problem.of_name)
        return Found(file, *at, name, dotted(problem.place), problem.words, severity)

    if not isinstance(document, dict):
        kind = "a list" if isinstance(document, list) else "one value"
        yield found("", Problem((), f"write fields such as `kind:`, not {kind}"))
        return
    name, wrong = _named(document, "name"), _of_kind(document)
    if wrong is not None:
        yield found(name, wrong)
        return
    if document["kind"] != KIND:
        verdict.others.append(f"{document['kind']} {name}".strip())
        return
    line, namespace = place(node, ("kind",)).line, _named(document, "namespace") or "default"
    server = {"file": file, "line": line, "namespace": namespace, "name": name, "valid": True}
    verdict.servers.append(server)
    for problem, severity in _judged(document, catalog):
        server["valid"] = server["valid"] and severity == "warning"
        yield found(name, problem, severity)


def _judged(document: dict[str, Any], catalog: Catalog | None) -> Iterator[tuple[Problem, str]]:
    """What is to be mended in one McpServer, and how bad that is."""
    try:
        resource = parse_strictly(Resource, {"metadata": {}} | document)
    except DocumentError as error:
        for problem in error.problems:
            without = problem.place == _IMAGE and problem.words.endswith("missing")
            words = "; only `mcpace run` does without" if without else ""
            yield problem._replace(words=problem.words + words), "error"
        return
    except ConfigError as error:
        yield Problem((), str(error)), "error"
        return
    for finding in _unused(resource.spec, catalog):
        yield Problem(*_of_finding(finding)), "error" if finding.reason in _OF_SERVER else "warning"


def _of_kind(document: dict[str, Any]) -> Problem | None:
    """What keeps a document from being an object of a kind that is known."""
    kind, version = document.get("kind"), document.get("apiVersion")
    for name, value in (("apiVersion", version), ("kind", kind)):
        if not isinstance(value, str) or not value:
            words = "write text" if name in document else "is required, and missing"
            return Problem((name,), words)
    ours = str(version).partition("/")[0] == GROUP
    if kind == KIND and version != API_VERSION:
        return Problem(("apiVersion",), f"write {API_VERSION}, not {version}")
    if ours and kind != KIND:
        return Problem(("kind",), f"write {KIND}, not {kind}")
    if not ours and kind != KIND and Vocabulary([KIND]).nearest(str(kind), closely=False) is not None:
        return Problem(("kind",), f"{version} has no {kind}; for {KIND} write apiVersion: {API_VERSION}")
    return None


def _named(document: dict[str, Any], what: str) -> str:
    metadata = document.get("metadata")
    return str(metadata.get(what) or "") if isinstance(metadata, dict) else ""


def _unused(spec: McpServerSpec, catalog: Catalog | None) -> Iterator[Finding]:
    """Rules that would do nothing, and names that the server does not list."""
    config, _ = parse(SidecarConfig, spec.sidecar_config() | {"monitoring": {}})
    for finding in findings.find(Settings(config), catalog or Catalog(), ()):
        if finding.reason not in _NOT_KNOWN:
            yield finding


def _of_finding(finding: Finding) -> tuple[Location, str]:
    """Where it is, and its words: `cache.tools[0].name: 'x' is …`."""
    path, _, words = finding.message.partition(": ")
    parts = re.findall(r"([A-Za-z]+)|\[(\d+)\]", path)
    return ("spec", *(int(number) if number else name for name, number in parts)), words
