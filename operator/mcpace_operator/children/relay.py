"""How the sidecars of one server reach each other, and nobody else does: each is asked for its sessions.

The port is each pod's own, never the Service's: what it hears is already identified, limited and counted.
It takes a certificate that only the server's own sidecars can make.
"""

from __future__ import annotations

from itertools import count
from typing import Any

from mcpace_operator.children import service
from mcpace_operator.children.context import Context
from mcpace_sidecar.contract.surface import RELAY_PORT, Flag


def port(context: Context) -> int | None:
    """Where each listens, beside what else does in the pod; None where no session outlives its replica."""
    spec = context.spec
    if not spec.sessions.continuity:
        return None
    taken = {*spec.ports, *(door.port for door in spec.egress)}
    return next(number for number in count(RELAY_PORT) if number not in taken)


def arguments(context: Context) -> list[str]:
    """What the sidecar is told."""
    number = port(context)
    if number is None:
        return []
    peers = f"{service.metrics_name(context)}.{context.server.key.namespace}.svc:{number}"
    return [f"{Flag.RELAY_LISTEN}=*:{number}", f"{Flag.PEERS}={peers}"]


def ports(context: Context) -> list[dict[str, Any]]:
    """The port of the sidecar's container."""
    number = port(context)
    return [] if number is None else [{"name": "relay", "containerPort": number, "protocol": "TCP"}]
