"""One `McpServer` as the operator sees it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

MANAGED_BY: Final = {"app.kubernetes.io/managed-by": "mcpace"}
"""The label of every child."""
SELECTOR: Final = ",".join(f"{name}={value}" for name, value in MANAGED_BY.items())
"""What selects every child."""
INSTANCE: Final = "mcpace.dev/instance"
"""The annotation by which a person says which mcpace looks after a server."""
RELEASE: Final = "mcpace.dev/release"
"""The label of pods that names the mcpace which made them: its Redis is open to them."""
SERVER_LABEL: Final = "mcpace.dev/server"
"""The label that names a child's server."""


class Key(NamedTuple):
    """What names a server."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"

    @property
    def secret(self) -> str:
        """The name of its Secret: apart, so that it never meets one of the user's."""
        return f"{self.name}-mcpace"


@dataclass(frozen=True, slots=True)
class Server:
    """The resource, as last seen."""

    key: Key
    uid: str
    generation: int
    spec: Mapping[str, Any]
    status: Mapping[str, Any]
    deleting: bool = False
    """Whether it waits for its deletion: for what it owns, or for somebody's finalizer."""
    manager: str = ""
    """The mcpace that looks after it, as a person or else that one itself said; "" is whoever sees it."""

    @classmethod
    def from_body(cls, body: Mapping[str, Any]) -> Server:
        """Read a body of the API server's."""
        metadata, status = body["metadata"], body.get("status") or {}
        return cls(
            key=Key(metadata["namespace"], metadata["name"]),
            uid=metadata["uid"],
            generation=metadata.get("generation", 1),
            spec=body.get("spec") or {},
            status=status,
            deleting="deletionTimestamp" in metadata,
            manager=str((metadata.get("annotations") or {}).get(INSTANCE) or status.get("managedBy") or ""),
        )
