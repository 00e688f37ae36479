"""What the server says of itself: its name, its version, the tools it lists."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from mcpace_sidecar.mcp.headers import Mirrored, mirrored

MAX_TOOLS: Final = 10_000
"""Tools that are known at most; the others are labelled as `other`."""
MAX_LABELS: Final = 500
"""Tools that have a label of their own, beside those that the configuration names."""
_LONGEST: Final = 1000
"""Characters of a name that is known."""
_HINTS: Final = ("readOnlyHint", "destructiveHint")
"""What is heeded of a tool's annotations."""
_MORE: Final = ("$ref", "allOf", "anyOf", "oneOf", "if", "patternProperties", "additionalProperties")
"""By these a schema may allow arguments beside its properties."""
OTHER = "other"
"""The label of every tool that the server does not list, and of those beyond MAX_LABELS."""


@dataclass(frozen=True, slots=True)
class ServerInfo:
    """How the server introduced itself."""

    name: str
    version: str
    protocol_version: str


@dataclass(slots=True)
class Catalog:
    """The server's tools, as last listed, and the labels that metrics may carry."""

    server: ServerInfo | None = None
    tools: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Tool name -> what is heeded of its annotations."""
    prompts: frozenset[str] | None = None
    """The names of its prompts; None where nobody asked."""
    mirrored: dict[str, Mirrored] = field(default_factory=dict)
    """Tool name -> the arguments that its headers mirror, where there are any."""
    locked: bool = False
    """Whether the server tells its tools to its own clients only."""
    _labels: set[str] = field(default_factory=set)
    """The labels given so far: what is counted under one is never forgotten."""
    _arguments: dict[str, bytes] = field(default_factory=dict)
    """Tool name -> the names of its arguments, joined: a server may list very many."""
    configured: frozenset[str] = frozenset()
    """Names that the configuration holds: bounded, so they may be labels too."""

    def learn(
        self,
        server: ServerInfo,
        tools: Iterable[dict[str, Any]],
        prompts: Iterable[dict[str, Any]] | None = None,
    ) -> None:
        """Take what a handshake brought."""
        self.server = server
        self.prompts = None if prompts is None else frozenset(str(each.get("name")) for each in prompts)
        self.tools, self.mirrored, self._arguments = {}, {}, {}
        self._take(tools)

    def overhear(self, result: bytes) -> None:
        """Take the tools from a list that was answered to a client, where the server tells us none."""
        if self.locked and len(self.tools) < MAX_TOOLS:
            try:
                self._take(msgspec.json.decode(result).get("tools") or [])
            except (ValueError, RecursionError, AttributeError, TypeError):
                return

    def _take(self, tools: Iterable[dict[str, Any]]) -> None:
        for tool in map(gist, tools):
            if tool:
                name = tool["name"]
                if len(self.tools) >= MAX_TOOLS and name not in self.tools and name not in self.configured:
                    continue
                self.tools[name] = tool["annotations"]
                wanted = mirrored(tool["inputSchema"])
                if wanted:
                    self.mirrored[name] = wanted
                if tool["arguments"] is not None and not self.locked:
                    self._arguments[name] = tool["arguments"]

    def label(self, tool: str) -> str:
        """The tool's name where it is known, and not too many are, else `other`."""
        if tool in self._labels or tool in self.configured:
            return tool
        if tool not in self.tools or len(self._labels) >= MAX_LABELS:
            return OTHER
        self._labels.add(tool)
        return tool

    def arguments(self, tool: str) -> frozenset[str] | None:
        """The names of all its arguments; None where they are not known."""
        joined = self._arguments.get(tool)
        if joined is None:
            return None
        return frozenset(joined.decode().split("\0")) if joined else frozenset()

    def forbids_caching(self, tool: str) -> bool:
        """Whether the server itself says that the tool changes something."""
        annotations = self.tools.get(tool)
        if not annotations:
            return False
        return annotations.get("readOnlyHint") is False or annotations.get("destructiveHint") is True


def gist(listed: dict[str, Any]) -> dict[str, Any]:
    """What is held of a listed tool or prompt, since the rest may be large; nothing of what has no name."""
    name, schema, notes = listed.get("name"), listed.get("inputSchema"), listed.get("annotations")
    if not isinstance(name, str) or len(name) > _LONGEST:
        return {}
    hints = {hint: notes[hint] for hint in _HINTS if hint in notes} if isinstance(notes, dict) else {}
    hints = {hint: value for hint, value in hints.items() if isinstance(value, bool)}
    names = listed.get("arguments")
    return {
        "name": name,
        "annotations": hints,
        "inputSchema": schema if mirrored(schema) else None,
        "arguments": names if isinstance(names, bytes) else _arguments(schema),  # bytes: of a gist
    }


def _arguments(schema: Any) -> bytes | None:
    names = schema.get("properties") if isinstance(schema, dict) else None
    if not isinstance(names, dict) or any(schema.get(part) for part in _MORE):
        return None
    return "\0".join(map(str, names)).encode(errors="replace")
