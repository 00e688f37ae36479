"""Bringing a server's children to where they should be: what differs is written, and nothing else."""

from __future__ import annotations

import logging
import time
from typing import Any, Final, NamedTuple

from mcpace_operator.children import children
from mcpace_operator.children.context import Context
from mcpace_operator.cluster.client import ApiError, Cluster
from mcpace_operator.cluster.kinds import OPTIONAL
from mcpace_operator.cluster.observed import Observed
from mcpace_operator.comparison.additions import without
from mcpace_operator.comparison.drift import CAUSE, Child, ChildId, Whose, fingerprint, remember, stamped
from mcpace_operator.comparison.repairs import Repairs, changed_by
from mcpace_operator.reconcile.decide import Action, Step, conflict, decide, unwanted
from mcpace_operator.resource.server import SERVER_LABEL, Key
from mcpace_operator.resource.workload import WRITTEN
from mcpace_operator.status.news import Events, News
from mcpace_operator.status.reasons import Reason
from mcpace_operator.status.seen import Trouble
from mcpace_sidecar.errors import McpaceError

log = logging.getLogger(__name__)

_AT_ONCE: Final = 16
"""Additions that are taken away in one turn."""


class LateError(McpaceError):
    """Something a server can do without is not as it should be; to be tried again."""


class Applied(NamedTuple):
    """How bringing children to where they should be went."""

    trouble: Trouble | None = None
    """What a person must mend."""
    again: Exception | None = None
    """Why it is to be tried again."""


class Applier:
    """Writes children: creates, applies over, puts back, removes, scales."""

    def __init__(self, cluster: Cluster, observed: Observed, events: Events) -> None:
        self._cluster = cluster
        self._observed = observed
        self._events = events
        self.repairs = Repairs()
        self._secrets: dict[Key, str] = {}
        """The hash of each Secret that was left: they are never read."""

    def forget(self, key: Key) -> None:
        """A server is gone."""
        self._secrets.pop(key, None)
        self.repairs.forget(key)

    async def bring(self, context: Context) -> Applied:
        """Bring the children to where they should be. Whatever goes wrong is said, and tried again."""
        try:
            taken = await self._apply(context)
        except LateError as error:
            return Applied(again=error)
        except ApiError as error:
            # Where the object itself is refused, the next manifest may be another.
            return Applied(Trouble(Reason.ApplyFailed, str(error)), None if error.final else error)
        except Exception as error:  # noqa: BLE001 - because whatever it was, it is said, and tried again
            return Applied(Trouble(Reason.ApplyFailed, _broken(error)), error)
        if not taken:
            return Applied()
        trouble = conflict(taken)  # nobody tells us when those that are not ours go
        return Applied(trouble, LateError(trouble.message))

    async def _apply(self, context: Context) -> list[ChildId]:
        """Bring the children to where they should be; return those whose names are taken."""
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
            return taken
        for child_id in unwanted(desired, self._observed.children[key], server):
            await self._remove(key, child_id)
        await self._scale(context)
        if late is not None:
            raise LateError(str(late))
        return []

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
        if self.repairs.is_one(key, child_id, step.desired):
            await self._put_back(context, step, by)
        if step.action is Action.CREATE:
            body = await self._create(context, step)
            if body is None:
                return False
        else:
            body = await self._overwrite(context, step)
        log.info("%s: applied %s", key, child_id)
        self.repairs.note(key, child_id, step.desired, by, time.monotonic())
        self._observed.applied(key, body, child_id.kind)
        if child_id.kind == "ConfigMap" and self._observed.deployment(key) is not None:
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
        if self.repairs.must_wait(key, child_id, now):
            raise LateError(f"somebody else keeps changing {child_id}")
        for addition in undoing[:_AT_ONCE]:  # an event brings the next turn
            body = await self._cluster.take_away(
                child_id.kind, key.namespace, child_id.name, without(addition)
            )
            self._observed.see(child_id.kind, body, deleted=False)
        self.repairs.note(key, child_id, step.desired, undoing[0].by, now)
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
        if self.repairs.must_wait(key, child_id, time.monotonic()):
            raise LateError(f"somebody else keeps changing {child_id}")
        how = "deleted" if step.action is Action.CREATE else f"changed by {by}" if by else "changed"
        note = f"{child_id} was {how}, and put back: write what is wanted in the McpServer"
        await self._events.tell(context.server, News(Reason.PutBack, note, bad=False), str(child_id))

    async def _overwrite(self, context: Context, step: Step) -> dict[str, Any]:
        """Apply over what is ours; what can never be changed is made anew."""
        key, (kind, name) = context.server.key, step.child_id
        child = self._observed.children[key][step.child_id]
        if child.deployment is not None and child.owns_replicas:  # left out, they would be one
            await self._cluster.scale(key.namespace, name, child.deployment.wanted)
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
        """Secrets are never read: what was written is noted on the Deployment, though it may stay as it is.

        False where it is somebody else's.
        """
        key, wanted = context.server.key, fingerprint(step.desired)
        child = self._observed.children[key].get(ChildId("Deployment", key.name))
        deployment = child.deployment if child is not None else None
        if wanted in (self._secrets.get(key), deployment.secret if deployment is not None else None):
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
        if child is not None and child.whose(context.server) is Whose.OURS:
            await self._cluster.annotate("Deployment", key.namespace, key.name, {WRITTEN: wanted})
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
        self.repairs.removed(key, child_id)
        self._observed.lose(key, child_id)

    async def _scale(self, context: Context) -> None:
        """Write the manifest's replicas; with autoscaling, or where it names none, never."""
        key, wanted = context.server.key, context.spec.replicas
        deployment = self._observed.deployment(key)
        if wanted is None or deployment is None or deployment.wanted == wanted:
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


def _broken(error: Exception) -> str:
    kind = type(error).__name__
    return f"The operator itself failed ({kind}), and tries again: its log says where. Please report it."


def _collected(child_id: ChildId) -> str:
    return f"{child_id} was an earlier server's of this name, and is just being collected"
