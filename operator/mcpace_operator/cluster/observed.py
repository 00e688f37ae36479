"""What the operator knows of the cluster: servers and their children, as events told it."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from mcpace_operator.comparison.additions import Addition
from mcpace_operator.comparison.drift import Child, ChildId, remember
from mcpace_operator.resource.models import KIND
from mcpace_operator.resource.server import SERVER_LABEL, Key, Server
from mcpace_operator.resource.workload import Deployment, Scaling

log = logging.getLogger(__name__)


class Observed:
    """The cluster as last seen. Every method that takes an event returns whose turn it is."""

    def __init__(self) -> None:
        self.servers: dict[Key, Server] = {}
        self.children: dict[Key, dict[ChildId, Child]] = defaultdict(dict)
        self.left: dict[tuple[Key, ChildId], str] = {}
        """The fields that we owned after our last apply of each child."""
        self.kinds: frozenset[str] = frozenset()
        """The optional kinds that the cluster knows."""
        self._whose: dict[tuple[str, ChildId], Key] = {}
        """Namespace and child -> the server that its label named last: a label can be changed."""

    def see(self, kind: str, body: Mapping[str, Any], *, deleted: bool) -> list[Key]:
        """Take what an event or a list says; return the servers that may need work now.

        One object that nobody can read must stop nothing else: it is logged, and left out.
        """
        try:
            return self._see(kind, body, deleted=deleted)
        except Exception:  # whatever it holds
            metadata = body.get("metadata") or {}
            log.exception("%s %s/%s cannot be read", kind, metadata.get("namespace"), metadata.get("name"))
            return []

    def _see(self, kind: str, body: Mapping[str, Any], *, deleted: bool) -> list[Key]:
        if kind == KIND:
            server = Server.from_body(body)
            if deleted:
                self.forget(server.key)
            else:
                self.servers[server.key] = server
            return [server.key]
        return self._see_child(kind, body, deleted=deleted)

    def _see_child(self, kind: str, body: Mapping[str, Any], *, deleted: bool) -> list[Key]:
        metadata = body["metadata"]
        namespace, child_id = metadata["namespace"], ChildId(kind, metadata["name"])
        label = (metadata.get("labels") or {}).get(SERVER_LABEL)
        owner = Key(namespace, label) if label is not None else None
        former = self._whose.get((namespace, child_id))
        known = self.children[former].get(child_id) if former is not None else None
        if deleted:
            if former is None or (known is not None and int(metadata["resourceVersion"]) < known.version):
                return []  # of one that another has replaced by now
            self.lose(former, child_id)
            return [former]
        child = remember(body)
        if known is not None and child.version <= known.version:
            return []  # older than what we know, such as our own apply's answer
        turns = []
        if former is not None and former != owner:
            self.lose(former, child_id)
            turns.append(former)
        if owner is not None:
            if child.owned and self.left.get((owner, child_id)) == child.owned:
                child.body = None
            self.keep(owner, child_id, child)
            turns.append(owner)
        return turns

    def keep(self, key: Key, child_id: ChildId, child: Child) -> None:
        """Know this child, as this server's and no other's."""
        former = self._whose.get((key.namespace, child_id))
        if former not in (None, key):
            self.lose(former, child_id)
        self.children[key][child_id] = child
        self._whose[key.namespace, child_id] = key

    def applied(self, key: Key, body: Mapping[str, Any], kind: str) -> None:
        """Take the answer to our own apply."""
        child_id = ChildId(kind, body["metadata"]["name"])
        child = remember(body)
        child.body = None
        self.left[key, child_id] = child.owned
        known = self.children[key].get(child_id)
        if known is None or child.version >= known.version:
            self.keep(key, child_id, child)

    def deployment(self, key: Key) -> Deployment | None:
        """The server's Deployment, if there is one."""
        child = self.children[key].get(ChildId("Deployment", key.name))
        return child.deployment if child is not None else None

    def scaling(self, key: Key) -> Scaling | None:
        """What its autoscaler says of whether it scales."""
        child = self.children[key].get(ChildId("HorizontalPodAutoscaler", key.name))
        return child.scaling if child is not None else None

    def altered(self, key: Key) -> dict[ChildId, Sequence[Addition]]:
        """The children that others added to."""
        return {child_id: child.added for child_id, child in self.children[key].items() if child.added}

    def satisfied(self, key: Key, child_id: ChildId) -> None:
        """A child was found in sync: its body need not be kept."""
        child = self.children[key][child_id]
        self.left[key, child_id] = child.owned
        child.body = None

    def lose(self, key: Key, child_id: ChildId) -> None:
        """A child is gone."""
        self.children[key].pop(child_id, None)
        self.left.pop((key, child_id), None)
        if self._whose.get((key.namespace, child_id)) == key:
            del self._whose[key.namespace, child_id]
        if not self.children[key] and key not in self.servers:
            del self.children[key]

    def forget(self, key: Key) -> None:
        """The server is gone. Its children are known until they are too: they may be left behind."""
        self.servers.pop(key, None)
        if not self.children.get(key):
            self.children.pop(key, None)
