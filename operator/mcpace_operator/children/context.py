"""What all children share: names, labels, their owner."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mcpace_operator.resource.models import API_VERSION, KIND, McpServerSpec
from mcpace_operator.resource.server import MANAGED_BY, SERVER_LABEL, Server
from mcpace_operator.settings import OperatorSettings


@dataclass(frozen=True, slots=True)
class Credentials:
    """The URLs under which this server reaches the stores, with its own user."""

    limits_url: str | None = field(default=None, repr=False)
    cache_url: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Context:
    """Everything a child is made from."""

    server: Server
    spec: McpServerSpec
    settings: OperatorSettings
    credentials: Credentials
    kinds: frozenset[str] = frozenset()
    """The optional kinds that the cluster knows."""
    restricted: bool = False
    """Whether the namespace takes pods of the profile `restricted` alone."""

    @property
    def name(self) -> str:
        """The name of every child but the Secret and the metrics Service."""
        return self.server.key.name

    @property
    def secret_name(self) -> str:
        """The name of the Secret."""
        return self.server.key.secret

    @property
    def selector(self) -> dict[str, str]:
        """The labels that select this server's pods; they never change."""
        return {SERVER_LABEL: self.name}

    def metadata(self, name: str | None = None, labels: Mapping[str, str] | None = None) -> dict[str, Any]:
        """Name, labels and owner of a child; `labels` are further ones."""
        return {
            "name": name or self.name,
            "namespace": self.server.key.namespace,
            "labels": {
                **(labels or {}),
                "app.kubernetes.io/name": self.name,
                **MANAGED_BY,
                **self.selector,
            },
            "ownerReferences": [
                {
                    "apiVersion": API_VERSION,
                    "kind": KIND,
                    "name": self.name,
                    "uid": self.server.uid,
                    "controller": True,
                    "blockOwnerDeletion": True,
                }
            ],
        }
