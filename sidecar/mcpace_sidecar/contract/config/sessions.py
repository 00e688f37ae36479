"""`sessions`: what becomes of a client's session when the server's process ends."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from mcpace_sidecar.contract.config.base import Model
from mcpace_sidecar.contract.quantity import Duration
from mcpace_sidecar.contract.rules import Broken, rule


class Sessions(Model):
    """Sessions of clients before 2026-07-28, which outlive the server's process."""

    continuity: bool = Field(
        default=True,
        description="Give sessions ids of mcpace's own, under which they go on in another process of the"
        " server; false: the server's ids pass as they are, and a session ends with its process.",
    )
    idle_timeout: Duration = Field(
        default="1h",
        description="How long the log level and the subscriptions of a session without a request are kept.",
    )
    max_age: Duration = Field(
        default="24h", description="The age beyond which a session that is lost is not begun again."
    )
    on_loss: Literal["revive", "end"] = Field(
        default="revive",
        description="What follows when the server does not know a session any more: it is begun again"
        " under the same id, or the client is told that it has ended (HTTP 404).",
    )

    @rule(
        "!has(self.continuity) || self.continuity"
        " || !(has(self.idleTimeout) || has(self.maxAge) || has(self.onLoss))",
        "without continuity the other fields of sessions have no effect: leave them out",
    )
    def _goes_on_where_it_says_how(self) -> Broken | None:
        if self.continuity:
            return None
        for name, written in (
            ("idle_timeout", "idleTimeout"),
            ("max_age", "maxAge"),
            ("on_loss", "onLoss"),
        ):
            if name in self.model_fields_set:
                return Broken((written,))
        return None
