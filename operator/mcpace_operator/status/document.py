"""What a server's status says: conditions, address, replicas, and what the server told of itself. Pure."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

from mcpace_operator.children import service
from mcpace_operator.resource.server import SERVER_LABEL, Server
from mcpace_operator.status.checklist import Result, Verdict, cached_tools
from mcpace_operator.status.conditions import SCHEMA, Condition, conditions, stamped
from mcpace_operator.status.performance import PERCENTILES
from mcpace_operator.status.reasons import Reason, Type
from mcpace_operator.status.seen import Seen
from mcpace_operator.status.stored import stored


def _word(description: str) -> dict[str, Any]:
    return {"type": "string", "description": description}


_NUMBERS: Final = {
    "callsPerSecond": "Calls of tools, limited ones too.",
    "errorRate": "The part of the calls that failed.",
    "hitRatio": "The part of the cached tools' answers that came from the cache.",
    "limitedRatio": "The part of the calls that a limit refused.",
}
STATUS_SCHEMA: Final[dict[str, Any]] = {
    "type": "object",
    "description": "What the operator sees of the server.",
    "properties": {
        "observedGeneration": {
            "type": "integer",
            "format": "int64",
            "description": "The manifest that all of this is said of.",
        },
        "conditions": {
            "type": "array",
            "description": "What holds, why, and what to do; docs/reference.md lists all.",
            "items": SCHEMA,
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["type"],
        },
        "managedBy": _word("The mcpace that looks after it: its release's namespace and name."),
        "url": _word("Where clients in the cluster reach it."),
        "replicas": {"type": "integer", "description": "Pods that there are."},
        "readyReplicas": {"type": "integer", "description": "Pods that answer."},
        "replicasReady": _word("Pods that answer, of those that are wanted."),
        "selector": _word("The labels of its pods, for whoever scales it."),
        "serverInfo": {
            "type": "object",
            "description": "How the server introduced itself.",
            "properties": {
                "name": _word("Its own name."),
                "version": _word("Its own version."),
                "protocolVersion": _word("The newest protocol that it speaks."),
            },
        },
        "tools": {
            "type": "array",
            "description": "The tools that it lists, 500 at most.",
            "items": {"type": "string"},
        },
        "performance": {
            "type": "object",
            "description": "Five minutes over all replicas, told again when a number moves by a fifth.",
            "properties": {
                **{
                    name: _word(f"What {part:.0%} of the calls did not exceed.")
                    for name, part in PERCENTILES.items()
                },
                **{name: _word(words) for name, words in _NUMBERS.items()},
            },
        },
        "checklist": {
            "type": "array",
            "description": "The ten items of the performance checklist, judged on live numbers.",
            "items": {
                "type": "object",
                "required": ["name", "result"],
                "properties": {
                    "name": _word("The item."),
                    "result": {
                        "type": "string",
                        "enum": [result.value for result in Result],
                        "description": "How it stands.",
                    },
                    "evidence": _word("What was seen."),
                    "mend": _word("What to write in the manifest."),
                },
            },
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["name"],
        },
    },
}


_APART: Final = (Type.Ready.name, Type.Managed.name)


def invalid(server: Server, words: str, now: datetime) -> dict[str, Any]:
    """The status of a server whose spec cannot be used: what runs goes on as it is."""
    kept = {name: value for name, value in server.status.items() if name != "conditions"}
    others = [each for each in stored(server.status).values() if each.type not in _APART]
    ready = Condition(Type.Ready, holds=False, reason=Reason.InvalidSpec, message=words)
    return kept | {
        "observedGeneration": server.generation,
        "conditions": [each.document() for each in (*others, *stamped(server, [ready], now))],
    }


def status(seen: Seen, now: datetime) -> dict[str, Any]:
    """The status of a server."""
    context, told = seen.context, seen.told
    server = context.server
    document: dict[str, Any] = {
        "observedGeneration": server.generation,
        "managedBy": context.settings.instance,
        "url": service.url(context),
        "replicas": seen.deployment.status.replicas,
        "readyReplicas": seen.ready,
        "replicasReady": f"{seen.ready}/{seen.wanted}",
        "selector": f"{SERVER_LABEL}={context.name}",
    }
    if told.facts is not None:
        document["serverInfo"] = dict(told.facts.info)
        document["tools"] = list(told.facts.tools)
    if told.live is not None and seen.verdicts is not None:
        document["performance"] = told.live.performance.document(cached_tools(context.spec))
        document["checklist"] = [_item(name, verdict) for name, verdict in seen.verdicts.items()]
    for name in KEPT:  # what was known before this operator started
        if name not in document and name in server.status:
            document[name] = server.status[name]
    said = stamped(server, conditions(seen), now)
    if told.live is None:
        before = stored(server.status)
        said += [before[kind.name] for kind in Type if kind.value.from_sidecars and kind.name in before]
    document["conditions"] = [each.document() for each in said]
    return document


KEPT: Final = ("serverInfo", "tools", "performance", "checklist")


def _item(name: str, verdict: Verdict) -> dict[str, str]:
    item = {"name": name, "result": verdict.result.value, "evidence": verdict.evidence}
    return item | ({"mend": verdict.mend} if verdict.mend else {})
