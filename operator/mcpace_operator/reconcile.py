"""One server, from what is observed to what should be: gather, decide, apply what differs, say so."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from mcpace_operator.children import children
from mcpace_operator.children.meta import SERVER_LABEL, Context, Credentials
from mcpace_operator.cluster import ApiError, Cluster
from mcpace_operator.drift import Child, ChildId, covers, fingerprint, in_sync, remember, stamped
from mcpace_operator.models import API_VERSION, KIND, parse_spec
from mcpace_operator.observed import Observed
from mcpace_operator.redis import Stores
from mcpace_operator.server import Key, Server
from mcpace_operator.settings import OperatorSettings
from mcpace_operator.sidecars import Sidecars
from mcpace_operator.status import available, invalid, status
from mcpace_sidecar.errors import ConfigError, StoreError

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Step:
    """One child, and what is to be done about it."""

    desired: dict[str, Any]
    child_id: ChildId
    apply: bool
    ours: bool
    """Whether what lives is known to be ours, so that it may be overwritten."""
    foreign: bool
    """Whether what lives belongs to somebody else, so that it must not be touched."""


def decide(
    desired: list[dict[str, Any]], live: Mapping[ChildId, Child], left: Mapping[ChildId, str], uid: str
) -> list[Step]:
    """What is to be done about each child. Pure."""
    steps = []
    for body in desired:
        child_id = ChildId(body["kind"], body["metadata"]["name"])
        child = live.get(child_id)
        if child is None:
            steps.append(Step(body, child_id, apply=True, ours=False, foreign=False))
            continue
        ours = child.owner_uid == uid
        apply = not ours or not in_sync(child, body, left.get(child_id))
        steps.append(Step(body, child_id, apply=apply, ours=ours, foreign=not ours))
    return steps


class Reconciler:
    """Level-triggered and idempotent: what it does depends on what is, never on what happened."""

    def __init__(
        self,
        cluster: Cluster,
        observed: Observed,
        stores: Stores,
        settings: OperatorSettings,
        sidecars: Sidecars,
    ) -> None:
        self._cluster = cluster
        self._observed = observed
        self._stores = stores
        self._settings = settings
        self._sidecars = sidecars
        self._secrets: dict[Key, str] = {}  # the hash of each Secret we left; they are never read
        self._users: dict[Key, Server] = {}

    async def reconcile(self, key: Key) -> None:
        """Bring one server to where it should be; ApiError or StoreError to be tried again."""
        server = self._observed.servers.get(key)
        if server is None:
            await self._gone(key)
            return
        try:
            spec = parse_spec(server.spec)
        except ConfigError as error:
            await self._say(server, invalid(server, str(error), datetime.now(UTC)))
            return
        failure: Exception | None = None
        trouble: tuple[str, str] | None = None
        credentials = Credentials()
        try:
            credentials = await self._stores.credentials(server)
            self._users[key] = server
        except StoreError as error:
            failure = error
        context = Context(server, spec, self._settings, credentials)
        if failure is None:
            try:
                trouble = await self._apply(context)
            except ApiError as error:
                failure, trouble = error, ("ApplyFailed", str(error))
        deployment = self._deployment(key)
        if available(deployment):
            self._sidecars.want(server, int(deployment.get("generation", 0)), spec.sidecar.admin_port)
        await self._say(
            server,
            status(
                context,
                deployment,
                self._sidecars.facts.get(key),
                self._stores.state(self._stores.limits),
                self._stores.state(self._stores.cache),
                trouble,
                datetime.now(UTC),
            ),
        )
        if failure is not None:
            raise failure

    async def _apply(self, context: Context) -> tuple[str, str] | None:
        key = context.server.key
        live = self._observed.children[key]
        left = {
            child_id: self._observed.left[key, child_id]
            for child_id in live
            if (key, child_id) in self._observed.left
        }
        for step in decide(children(context), live, left, context.server.uid):
            if step.child_id.kind == "Secret":
                conflict = await self._apply_secret(key, step)
                if conflict is not None:
                    return conflict
            elif step.foreign:
                return "ChildConflict", _conflict(step)
            elif not step.apply:
                if live[step.child_id].body is not None:
                    self._observed.satisfied(key, step.child_id)
            else:
                conflict = await self._apply_child(key, step)
                if conflict is not None:
                    return conflict
        return None

    async def _apply_child(self, key: Key, step: Step) -> tuple[str, str] | None:
        if not step.ours and await self._is_foreign(key, step):
            return "ChildConflict", _conflict(step)
        try:
            body = await self._cluster.apply(stamped(step.desired), force=step.ours)
        except ApiError as error:
            if error.status == 409 and not step.ours:
                return "ChildConflict", f"{_conflict(step)} {error}"
            raise
        log.info("%s: applied %s", key, step.child_id)
        self._observed.applied(key, body, step.child_id.kind)
        if step.child_id.kind == "ConfigMap" and step.ours:
            await self._hasten(key, fingerprint(step.desired))
        return None

    async def _is_foreign(self, key: Key, step: Step) -> bool:
        """Whether an object of the child's name exists that is not ours.

        One without our labels is not watched, and an apply that meets no conflict would merge into it.
        """
        uid = step.desired["metadata"]["ownerReferences"][0]["uid"]
        items = self._cluster.items(step.child_id.kind, namespace=key.namespace, name=step.child_id.name)
        return any([remember(body).owner_uid != uid async for body in items])

    async def _apply_secret(self, key: Key, step: Step) -> tuple[str, str] | None:
        # Secrets are never read: what we wrote last is remembered, and written once after a start.
        # Unforced, because what is there, if anything, might be somebody else's.
        wanted = fingerprint(step.desired)
        if self._secrets.get(key) == wanted:
            return None
        try:
            await self._cluster.apply(stamped(step.desired), force=False)
        except ApiError as error:
            if error.status == 409:
                return (
                    "ChildConflict",
                    f"{step.child_id} holds what is not this server's: delete it. {error}",
                )
            raise
        self._secrets[key] = wanted
        return None

    async def _hasten(self, key: Key, mark: str) -> None:
        """Write on the pods that their configuration changed: kubelets then look at once."""
        selector = f"{SERVER_LABEL}={key.name}"
        try:
            async for pod in self._cluster.items("Pod", namespace=key.namespace, selector=selector):
                name = pod["metadata"]["name"]
                await self._cluster.annotate("Pod", key.namespace, name, {"mcpace.dev/config": mark})
        except ApiError as error:
            log.warning("%s: a pod was not told of its new configuration, so it is late: %s", key, error)

    def _deployment(self, key: Key) -> Mapping[str, Any]:
        child = self._observed.children[key].get(ChildId("Deployment", key.name))
        return child.facts if child is not None else {}

    async def _say(self, server: Server, wanted: dict[str, Any]) -> None:
        """Write the status if it says anything new."""
        if covers(wanted, server.status) and covers(_names(server.status), _names(wanted)):
            return
        body = {
            "apiVersion": API_VERSION,
            "kind": KIND,
            "metadata": {"name": server.key.name, "namespace": server.key.namespace},
            "status": wanted,
        }
        try:
            answer = await self._cluster.apply(body, force=True, subresource="/status")
        except ApiError as error:
            if error.status == 404:
                return  # deleted meanwhile
            raise
        current = self._observed.servers.get(server.key)
        if current is not None and current.uid == server.uid and current.generation == server.generation:
            self._observed.servers[server.key] = Server.from_body(answer)

    async def _gone(self, key: Key) -> None:
        self._sidecars.forget(key)
        self._secrets.pop(key, None)
        server = self._users.pop(key, None)
        if server is not None:
            await self._stores.drop(server)


def _conflict(step: Step) -> str:
    return f"{step.child_id} exists and is not this server's: rename one of the two."


def _names(document: Mapping[str, Any]) -> dict[str, Any]:
    """The names that a status holds, and its conditions' types: what must not be left over."""
    kinds = [{"type": c.get("type")} for c in document.get("conditions") or []]
    return {"names": sorted(document), "types": sorted(c["type"] for c in kinds)}
