"""What the operator knows of the cluster: servers and their children, as events told it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from mcpace_operator.drift import Child, ChildId, remember
from mcpace_operator.models import KIND
from mcpace_operator.server import SERVER_LABEL, Key, Server


class Observed:
    """The cluster as last seen. Every method that takes an event returns whose turn it is."""

    def __init__(self) -> None:
        self.servers: dict[Key, Server] = {}
        self.children: dict[Key, dict[ChildId, Child]] = defaultdict(dict)
        self.left: dict[tuple[Key, ChildId], str] = {}
        """The fields that we owned after our last apply of each child."""
        self.kinds: frozenset[str] = frozenset()
        """The optional kinds that the cluster knows."""

    def see(self, kind: str, body: Mapping[str, Any], *, deleted: bool) -> Key | None:
        """Take what an event or a list says; return the server that may need work now."""
        if kind == KIND:
            server = Server.from_body(body)
            if deleted:
                self.forget(server.key)
            else:
                self.servers[server.key] = server
            return server.key
        return self._see_child(kind, body, deleted=deleted)

    def _see_child(self, kind: str, body: Mapping[str, Any], *, deleted: bool) -> Key | None:
        metadata = body["metadata"]
        owner = (metadata.get("labels") or {}).get(SERVER_LABEL)
        if owner is None:
            return None
        key, child_id = Key(metadata["namespace"], owner), ChildId(kind, metadata["name"])
        known = self.children[key].get(child_id)
        if deleted:
            if known is None:
                return None
            self.lose(key, child_id)
            return key
        child = remember(body)
        if known is not None and child.version <= known.version:
            return None  # older than what we know, such as our own apply's answer
        if child.owned and self.left.get((key, child_id)) == child.owned:
            child.body = None
        self.children[key][child_id] = child
        return key

    def applied(self, key: Key, body: Mapping[str, Any], kind: str) -> None:
        """Take the answer to our own apply."""
        child_id = ChildId(kind, body["metadata"]["name"])
        child = remember(body)
        child.body = None
        self.left[key, child_id] = child.owned
        known = self.children[key].get(child_id)
        if known is None or child.version >= known.version:
            self.children[key][child_id] = child

    def satisfied(self, key: Key, child_id: ChildId) -> None:
        """A child was found in sync: its body need not be kept."""
        child = self.children[key][child_id]
        self.left[key, child_id] = child.owned
        child.body = None

    def lose(self, key: Key, child_id: ChildId) -> None:
        """A child is gone."""
        self.children[key].pop(child_id, None)
        self.left.pop((key, child_id), None)
        if not self.children[key] and key not in self.servers:
            del self.children[key]

    def forget(self, key: Key) -> None:
        """The server is gone. Its children are known until they are too: they may be left behind."""
        self.servers.pop(key, None)
        if not self.children.get(key):
            self.children.pop(key, None)
