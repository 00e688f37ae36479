"""What is to be done about each child of a server. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

from mcpace_operator.comparison.drift import Child, ChildId, Whose, in_sync
from mcpace_operator.resource.server import Server
from mcpace_operator.status.reasons import Reason
from mcpace_operator.status.seen import Trouble


class Action(Enum):
    """What is to be done about one child."""

    KEEP = "keep"
    CREATE = "create"
    APPLY = "apply"
    WAIT = "wait"
    """An earlier server's, which the garbage collector is about to take."""
    LEAVE = "leave"
    """It belongs to somebody else, and must not be touched."""


@dataclass(frozen=True, slots=True)
class Step:
    """One child, and what is to be done about it."""

    desired: dict[str, Any]
    child_id: ChildId
    action: Action


def decide(
    desired: list[dict[str, Any]],
    live: Mapping[ChildId, Child],
    left: Mapping[ChildId, str],
    server: Server,
    *,
    manifest_known: bool = False,
) -> list[Step]:
    """What is to be done about each child; for `manifest_known` see `in_sync`. Pure."""
    steps = []
    for body in desired:
        child_id = ChildId(body["kind"], body["metadata"]["name"])
        child = live.get(child_id)
        if child is None:
            action = Action.CREATE
        elif (whose := child.whose(server)) is not Whose.OURS:
            action = _OTHERWISE[whose]
        else:
            same = in_sync(child, body, left.get(child_id), manifest_known=manifest_known)
            action = Action.KEEP if same else Action.APPLY
        steps.append(Step(body, child_id, action))
    return steps


_OTHERWISE: Final = {
    Whose.ORPHAN: Action.APPLY,
    Whose.FORMER: Action.WAIT,
    Whose.FOREIGN: Action.LEAVE,
}
"""What is done about a child that is not ours, by whose it is."""


def unwanted(desired: list[dict[str, Any]], live: Mapping[ChildId, Child], server: Server) -> list[ChildId]:
    """Children of ours that this manifest and this version want no more. Pure.

    Orphans that we made are among them: an autoscaler of a former server would go on scaling. An old
    Deployment stays until the one that replaces it answers.
    """
    wanted = {ChildId(body["kind"], body["metadata"]["name"]) for body in desired}
    gone = [
        child_id
        for child_id, child in live.items()
        if child_id not in wanted
        and ((whose := child.whose(server)) is Whose.OURS or (whose is Whose.ORPHAN and child.hash))
    ]
    replacing = [live.get(child_id) for child_id in wanted if child_id.kind == "Deployment"]
    replaced = all(new is not None and new.deployment and new.deployment.is_available for new in replacing)
    return [child_id for child_id in gone if child_id.kind != "Deployment" or replaced]


def conflict(taken: Sequence[ChildId]) -> Trouble:
    """What is said of children's names that are taken."""
    if len(taken) == 1:
        words = f"{taken[0]} exists and is not this server's: rename one of the two."
    else:
        words = f"{', '.join(map(str, taken))} exist and are not this server's: rename them, or the server."
    return Trouble(Reason.ChildConflict, words)
