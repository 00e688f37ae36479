"""`networkPolicy`: who may reach the pods, and whom they may reach."""

from __future__ import annotations

from pydantic import Field

from mcpace_operator.resource.pod import PodPart
from mcpace_sidecar.contract.config import Model


class NetworkPolicy(Model):
    """Nobody reaches the server's own port; the admin port is for the operator and for monitoring."""

    enabled: bool = Field(default=True, description="False leaves the network as it is.")
    from_: tuple[PodPart, ...] = Field(
        default=(),
        max_length=32,
        alias="from",
        description="Peers that may call, as of a NetworkPolicy; by default those of the chart's values,"
        " or else everybody.",
    )
    egress: tuple[PodPart, ...] | None = Field(
        default=None,
        max_length=32,
        description="Rules of a NetworkPolicy for what the pods may reach, open where not set;"
        " name resolution and the shared stores are always allowed.",
    )
