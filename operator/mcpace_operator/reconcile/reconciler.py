"""One server, from what is observed to what should be: gather, decide, apply what differs, say so."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from typing import Any, Final

from mcpace_operator.children import children
from mcpace_operator.children.meta import Context, Credentials
from mcpace_operator.cluster.cache import Observed
from mcpace_operator.cluster.client import ApiError, Cluster
from mcpace_operator.cluster.kinds import OPTIONAL
from mcpace_operator.cluster.namespaces import Namespaces
from mcpace_operator.comparison.additions import ELSEWHERE, MANAGER, Addition, without
from mcpace_operator.comparison.drift import (
    CAUSE,
    Child,
    ChildId,
    Whose,
    covers,
    fingerprint,
    in_sync,
    remember,
    stamped,
)
from mcpace_operator.comparison.repairs import Repairs, changed_by
from mcpace_operator.probes.pods import Pods
from mcpace_operator.resource.models import API_VERSION, KIND, parse_spec
from mcpace_operator.resource.server import SERVER_LABEL, Key, Server
from mcpace_operator.settings import OperatorSettings
from mcpace_operator.status.conditions import Trouble, available, by_type, elsewhere
from mcpace_operator.status.conditions import stamped as stamped_conditions
from mcpace_operator.status.document import Told, invalid, status
from mcpace_operator.status.events import Events, News, news
from mcpace_operator.status.reasons import Reason, Type
from mcpace_operator.stores.redis import Stores
from mcpace_sidecar.errors import ConfigError, McpaceError, StoreError

log = logging.getLogger(__name__)


_AT_ONCE: Final = 16
"""Additions that are taken away in one turn."""


class LateError(McpaceError):
    """Something a server can do without is not as it should be; to be tried again."""


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
    replaced = all(
        available(live[child_id].facts) if child_id in live else False
        for child_id in wanted
        if child_id.kind == "Deployment"
    )
    return [child_id for child_id in gone if child_id.kind != "Deployment" or replaced]


class Reconciler:
    """Level-triggered and idempotent: what it does depends on what is, never on what happened."""

    def __init__(
        self,
        cluster: Cluster,
        observed: Observed,
        stores: Stores,
        settings: OperatorSettings,
        pods: Pods,
    ) -> None:
        self._cluster = cluster
        self._observed = observed
        self._stores = stores
        self._settings = settings
        self._pods = pods
        self._secrets: dict[Key, str] = {}  # the hash of each Secret we left; they are never read
        self._users: dict[Key, Server] = {}
        self._namespaces = Namespaces(cluster)
        self._settled: set[str] = set()
        self._repairs = Repairs()
        self._events = Events(cluster)

    async def reconcile(self, key: Key) -> None:
        """Bring one server to where it should be; ApiError or StoreError to be tried again."""
        server = self._observed.servers.get(key)
        if server is None:
            await self._gone(key)
            return
        if server.deleting:  # what it owned is being taken, and nothing must be put back
            self._pods.forget(key)
            if server.manager == self._settings.instance:
                self._users[key] = server  # it may have waited since before we started
            return
        if server.manager not in ("", self._settings.instance):
            self._pods.forget(key)
            await self._leave(server)
            return
        try:
            spec = parse_spec(server.spec)
        except ConfigError as error:
            await self._say(server, invalid(server, str(error), datetime.now(UTC)))
            return
        failure: Exception | None = None
        trouble: Trouble | None = None
        credentials = Credentials()
        try:
            credentials = await self._stores.credentials(server)
            self._users[key] = server
        except StoreError as error:
            failure = error
        restricted = await self._namespaces.restricted(key.namespace)
        context = Context(server, spec, self._settings, credentials, self._observed.kinds, restricted)
        if failure is None:
            try:
                trouble = await self._apply(context)
            except LateError as error:
                failure = error
            except ApiError as error:
                trouble = Trouble(Reason.ApplyFailed, str(error))
                failure = None if error.final else error  # the next manifest may be another
            except Exception as error:  # noqa: BLE001 - because whatever it was, it is said, and tried again
                trouble = Trouble(Reason.ApplyFailed, _broken(error))
                failure = error
            if trouble is not None and trouble.reason is Reason.ChildConflict:
                failure = LateError(trouble.message)  # nobody tells us when those that are not ours go
        deployment = self._deployment(key)
        self._pods.want(context, deployment)
        await self._say(
            server,
            status(
                context,
                deployment,
                self._pods.told.get(key, Told()),
                self._stores.state(self._stores.limits, key),
                self._stores.state(self._stores.cache, key),
                trouble,
                datetime.now(UTC),
                self._repairs.contested(key, time.monotonic()),
                self._altered(key),
                self._facts(key, "HorizontalPodAutoscaler"),
            ),
        )
        if failure is not None:
            raise failure

    async def _apply(self, context: Context) -> Trouble | None:
        """Bring the children to where they should be; return what a person must mend."""
        key, server = context.server.key, context.server
        live = self._observed.children[key]
        left = {
            child_id: self._observed.left[key, child_id]
            for child_id in live
            if (key, child_id) in self._observed.left
        }
        desired = children(context)
        late: McpaceError | None = None
        known = server.status.get("observedGeneration") == server.generation
        taken: list[ChildId] = []
        for step in decide(desired, live, left, server, manifest_known=known):
            if taken:  # nothing more is made; what else is in the way is said together with it
                taken += [step.child_id] if await self._is_taken(context, step) else []
                continue
            try:
                if step.child_id.kind == "Secret":
                    ours = await self._apply_secret(context, step)
                else:
                    ours = await self._apply_child(context, step)
            except LateError as error:
                late = error
            except ApiError as error:
                if step.child_id.kind not in OPTIONAL:
                    raise
                log.warning("%s: %s: %s", key, step.child_id, error)
                late = error  # a server does not fail for want of what only looks at it
            else:
                if not ours:
                    taken.append(step.child_id)
        if taken:
            return conflict(taken)
        for child_id in unwanted(desired, self._observed.children[key], server):
            await self._remove(key, child_id)
        await self._scale(context)
        if late is not None:
            raise LateError(str(late))
        return None

    async def _is_taken(self, context: Context, step: Step) -> bool:
        """Whether somebody else's object bears a child's name."""
        kind, name = step.child_id
        if step.action is not Action.CREATE:
            return step.action is Action.LEAVE
        if kind == "Secret":
            return await self._secret(context, step) is Whose.FOREIGN
        found = self._cluster.items(kind, namespace=context.server.key.namespace, name=name)
        return any([remember(body).whose(context.server) is Whose.FOREIGN async for body in found])

    async def _apply_child(self, context: Context, step: Step) -> bool:
        """Bring one to where it should be; False where it is somebody else's."""
        key, child_id = context.server.key, step.child_id
        if step.action is Action.KEEP:
            child = self._observed.children[key][child_id]
            if child.body is not None:
                await self._adopt(context, child, step)
                self._observed.satisfied(key, child_id)
            await self._take_away(context, step)
            return True
        if step.action is Action.LEAVE:
            return False
        if step.action is Action.WAIT:
            raise LateError(_collected(child_id))
        live = self._observed.children[key].get(child_id)
        by = changed_by(live.body) if live is not None else ""
        if self._repairs.is_one(key, child_id, step.desired):
            await self._put_back(context, step, by)
        if step.action is Action.CREATE:
            body = await self._create(context, step)
            if body is None:
                return False
        else:
            body = await self._overwrite(context, step)
        log.info("%s: applied %s", key, child_id)
        self._repairs.note(key, child_id, step.desired, by, time.monotonic())
        self._observed.applied(key, body, child_id.kind)
        if child_id.kind == "ConfigMap" and self._deployment(key):
            await self._hasten(key, fingerprint(step.desired))
        await self._take_away(context, step)
        return True

    async def _take_away(self, context: Context, step: Step) -> None:
        """Remove what others added, where it can undo what the sidecar is for."""
        key, child_id = context.server.key, step.child_id
        undoing = [each for each in self._observed.children[key][child_id].added if each.undoes]
        if not undoing:
            return
        now = time.monotonic()
        if self._repairs.must_wait(key, child_id, now):
            raise LateError(f"somebody else keeps changing {child_id}")
        for addition in undoing[:_AT_ONCE]:  # an event brings the next turn
            body = await self._cluster.take_away(
                child_id.kind, key.namespace, child_id.name, without(addition)
            )
            self._observed.see(child_id.kind, body, deleted=False)
        self._repairs.note(key, child_id, step.desired, undoing[0].by, now)
        added = ", ".join(map(str, undoing[:_AT_ONCE]))
        note = f"{added} was taken away from {child_id}: it can lead calls past the sidecar, or into it"
        log.info("%s: %s", key, note)
        await self._events.tell(context.server, News(Reason.PutBack, note, bad=False), str(child_id))

    async def _create(self, context: Context, step: Step) -> dict[str, Any] | None:
        """Make it, or apply over one of ours that was not seen yet; None where it is somebody else's.

        One without our labels is not watched.
        """
        key, (kind, name) = context.server.key, step.child_id
        try:
            return await self._cluster.create(stamped(step.desired))
        except ApiError as error:
            if error.status != 409:
                raise
        async for body in self._cluster.items(kind, namespace=key.namespace, name=name):
            child = remember(body)
            whose = child.whose(context.server)
            if whose is Whose.FOREIGN:
                return None
            if whose is Whose.FORMER:
                raise LateError(_collected(step.child_id))
            self._observed.keep(key, step.child_id, child)
            return await self._overwrite(context, step)
        raise ApiError(409, f"{step.child_id} is just being deleted")

    async def _put_back(self, context: Context, step: Step, by: str) -> None:
        """Say who changed what was applied; LateError where that happens too often to fight it."""
        key, child_id = context.server.key, step.child_id
        if self._repairs.must_wait(key, child_id, time.monotonic()):
            raise LateError(f"somebody else keeps changing {child_id}")
        how = "deleted" if step.action is Action.CREATE else f"changed by {by}" if by else "changed"
        note = f"{child_id} was {how}, and put back: write what is wanted in the McpServer"
        await self._events.tell(context.server, News(Reason.PutBack, note, bad=False), str(child_id))

    async def _overwrite(self, context: Context, step: Step) -> dict[str, Any]:
        """Apply over what is ours; what can never be changed is made anew."""
        key, (kind, name) = context.server.key, step.child_id
        child = self._observed.children[key][step.child_id]
        if child.facts.get("ownsReplicas"):  # an older operator's: left out, they would be one
            await self._cluster.scale(key.namespace, name, child.facts["wanted"])
        try:
            return await self._cluster.apply(stamped(step.desired))
        except ApiError as error:
            if error.status != 422 or "immutable" not in str(error):
                raise
        log.info("%s: making %s anew: it cannot be changed", key, step.child_id)
        # Its pods go on meanwhile, and the new Deployment takes them over.
        await self._cluster.delete(kind, key.namespace, name, child.uid, orphan=True)
        self._observed.lose(key, step.child_id)
        return await self._cluster.create(stamped(step.desired))

    async def _adopt(self, context: Context, child: Child, step: Step) -> None:
        """Note on an older operator's Deployment what it was made from."""
        annotations = step.desired["metadata"].get("annotations") or {}
        if child.cause or CAUSE not in annotations:
            return
        key = context.server.key
        await self._cluster.annotate("Deployment", key.namespace, key.name, {CAUSE: annotations[CAUSE]})

    async def _apply_secret(self, context: Context, step: Step) -> bool:
        """Secrets are never read: what was written is noted on the pods that got it.

        False where it is somebody else's.
        """
        key, wanted = context.server.key, fingerprint(step.desired)
        if wanted in (self._secrets.get(key), self._deployment(key).get("secret")):
            return True
        try:
            await self._cluster.create(stamped(step.desired))
        except ApiError as error:
            if error.status != 409:
                raise
            whose = await self._secret(context, step)
            if whose is Whose.FOREIGN:
                return False
            if whose is Whose.FORMER:
                raise LateError(_collected(step.child_id)) from None
            await self._cluster.apply(stamped(step.desired))
        log.info("%s: applied %s", key, step.child_id)
        self._secrets[key] = wanted
        return True

    async def _secret(self, context: Context, step: Step) -> Whose:
        """Whose the Secret of that name is; ours where there is none."""
        metadata = await self._cluster.look("Secret", context.server.key.namespace, step.child_id.name)
        if metadata is None:
            return Whose.OURS
        return remember({"metadata": metadata}).whose(context.server)

    async def _remove(self, key: Key, child_id: ChildId) -> None:
        """Delete a child that is wanted no more."""
        child = self._observed.children[key][child_id]
        await self._cluster.delete(child_id.kind, key.namespace, child_id.name, child.uid)
        log.info("%s: removed %s", key, child_id)
        self._repairs.removed(key, child_id)
        self._observed.lose(key, child_id)

    async def _scale(self, context: Context) -> None:
        """Write the manifest's replicas; with autoscaling, or where it names none, never."""
        key, wanted = context.server.key, context.spec.replicas
        facts = self._deployment(key)
        if wanted is None or not facts or facts["wanted"] == wanted:
            return
        body = await self._cluster.scale(key.namespace, key.name, wanted)
        log.info("%s: scaled to %d", key, wanted)
        self._observed.applied(key, body, "Deployment")

    async def _hasten(self, key: Key, mark: str) -> None:
        """Write on the pods that their configuration changed: kubelets then look at once."""
        selector = f"{SERVER_LABEL}={key.name}"
        try:
            pods = self._cluster.items("Pod", namespace=key.namespace, selector=selector, near=True)
            async for pod in pods:
                name = pod["metadata"]["name"]
                await self._cluster.annotate("Pod", key.namespace, name, {"mcpace.dev/config": mark})
        except ApiError as error:
            log.warning("%s: a pod was not told of its new configuration, so it is late: %s", key, error)

    def _altered(self, key: Key) -> dict[ChildId, Sequence[Addition]]:
        """The children that others added to."""
        children = self._observed.children[key].items()
        return {child_id: child.added for child_id, child in children if child.added}

    def _deployment(self, key: Key) -> Mapping[str, Any]:
        return self._facts(key, "Deployment")

    def _facts(self, key: Key, kind: str) -> Mapping[str, Any]:
        child = self._observed.children[key].get(ChildId(kind, key.name))
        return child.facts if child is not None else {}

    async def _leave(self, server: Server) -> None:
        """Say that another mcpace looks after it: under a name of our own, because it writes the rest."""
        condition = elsewhere(server)
        known = by_type(server.status).get(condition.type.name) or {}
        if known.get("message") != condition.message:
            log.info("%s: left alone: %s looks after it", server.key, server.manager)
            said = stamped_conditions(server, [condition], datetime.now(UTC))
            await self._write(server, {"conditions": said}, manager=ELSEWHERE)

    async def _settle(self, server: Server) -> None:
        """Take back what another mcpace may have said before it went; one that is there says it again."""
        if Type.Managed.name in by_type(server.status) and server.uid not in self._settled:
            self._settled.add(server.uid)
            await self._write(server, {}, manager=ELSEWHERE)

    async def _write(
        self, server: Server, status: dict[str, Any], *, manager: str = MANAGER
    ) -> dict[str, Any] | None:
        """Write a status; None where the server is gone."""
        metadata = {"name": server.key.name, "namespace": server.key.namespace}
        body = {"apiVersion": API_VERSION, "kind": KIND, "metadata": metadata, "status": status}
        try:
            return await self._cluster.apply(body, "/status", manager=manager)
        except ApiError as error:
            if error.status == 404:
                return None
            raise

    async def _say(self, server: Server, wanted: dict[str, Any]) -> None:
        """Write the status if it says anything new."""
        await self._settle(server)
        if covers(wanted, server.status) and covers(_names(server.status), _names(wanted)):
            return
        answer = await self._write(server, wanted)
        if answer is None:
            return
        for told in news(server.status, wanted):
            await self._events.tell(server, told)
        current = self._observed.servers.get(server.key)
        if current is not None and current.uid == server.uid and current.generation == server.generation:
            self._observed.servers[server.key] = Server.from_body(answer)

    async def _gone(self, key: Key) -> None:
        self._pods.forget(key)
        self._secrets.pop(key, None)
        self._repairs.forget(key)
        server = self._users.pop(key, None)
        if server is not None:
            await self._stores.drop(server)


def _broken(error: Exception) -> str:
    kind = type(error).__name__
    return f"The operator itself failed ({kind}), and tries again: its log says where. Please report it."


def conflict(taken: Sequence[ChildId]) -> Trouble:
    """What is said of children's names that are taken."""
    if len(taken) == 1:
        words = f"{taken[0]} exists and is not this server's: rename one of the two."
    else:
        words = f"{', '.join(map(str, taken))} exist and are not this server's: rename them, or the server."
    return Trouble(Reason.ChildConflict, words)


def _collected(child_id: ChildId) -> str:
    return f"{child_id} was an earlier server's of this name, and is just being collected"


def _names(document: Mapping[str, Any]) -> dict[str, Any]:
    """The names that a status holds, and its conditions' types: what must not be left over."""
    conditions = document.get("conditions")
    types = {str(c["type"]) for c in (conditions if isinstance(conditions, list) else []) if "type" in c}
    return {"names": sorted(document), "types": sorted(types - {Type.Managed.name})}
