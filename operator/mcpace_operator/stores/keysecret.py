"""What a release has once: the Secret of its master key, made here where there is none.

It is created and never written again, and nobody owns it: no upgrade and no rendering of the chart can
change it, and it outlives the release, so that the next one of its name rolls no server.
"""

from __future__ import annotations

import base64
import logging
import secrets
from typing import Final

from mcpace_operator.cluster.client import ApiError, Cluster
from mcpace_operator.masterkey import MasterKey
from mcpace_sidecar.errors import McpaceError

log = logging.getLogger(__name__)

CURRENT: Final = "current"


class KeyMadeElsewhereError(McpaceError):
    """The Secret came to be after this process was given its environment."""


async def make_key(cluster: Cluster, namespace: str, name: str) -> MasterKey:
    """Make the Secret, and return its key; KeyMadeElsewhereError where somebody else just did, ApiError."""
    current = secrets.token_hex(32).encode()
    metadata = {
        "name": name,
        "namespace": namespace,
        # None of the release's labels: what prunes by them must not find it.
        "labels": {"app.kubernetes.io/part-of": "mcpace"},
        "annotations": {
            "helm.sh/resource-policy": "keep",
            "argocd.argoproj.io/sync-options": "Prune=false,Delete=false",
            "mcpace.dev/about": "Every password of mcpace is derived from this. Keep it.",
        },
    }
    body = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": metadata,
        "type": "Opaque",
        "data": {CURRENT: base64.b64encode(current).decode()},
    }
    try:
        await cluster.post(body)
    except ApiError as error:
        if error.status != 409:
            raise
        raise KeyMadeElsewhereError(
            f"the Secret {namespace}/{name} was made meanwhile: ending, to be started again with it."
            f" If this comes again, it holds no `{CURRENT}`"
        ) from None
    log.info("Made the release's master key, in the Secret %s/%s", namespace, name)
    return MasterKey(current)
