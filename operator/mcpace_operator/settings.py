"""What the operator's environment says; the chart sets it."""

from __future__ import annotations

import hashlib
import hmac
import os
from dataclasses import dataclass, field

from mcpace_sidecar import __version__
from mcpace_sidecar.environment import secret
from mcpace_sidecar.errors import ConfigError


@dataclass(frozen=True, slots=True)
class OperatorSettings:
    """Images, stores, and the key that every server's passwords are derived from.

    `repr` leaves the secrets out.
    """

    sidecar_image: str = f"mcpace/sidecar:{__version__}"
    sidecar_pull_policy: str = "IfNotPresent"
    limits_url: str | None = field(default=None, repr=False)
    cache_url: str | None = field(default=None, repr=False)
    master_key: bytes = field(default=b"", repr=False)
    health_port: int = 8080

    @classmethod
    def from_environment(cls) -> OperatorSettings:
        """Read MCPACE_*; ConfigError names what is missing."""
        key = secret("MCPACE_MASTER_KEY")
        if key is None:
            raise ConfigError(
                "MCPACE_MASTER_KEY (or MCPACE_MASTER_KEY_FILE) is missing: a random text of 32 characters"
                " or more, from which each server's passwords are derived; the chart makes one"
            )
        return cls(
            sidecar_image=os.environ.get("MCPACE_SIDECAR_IMAGE", f"mcpace/sidecar:{__version__}"),
            sidecar_pull_policy=os.environ.get("MCPACE_SIDECAR_PULL_POLICY") or "IfNotPresent",
            limits_url=secret("MCPACE_LIMITS_URL"),
            cache_url=secret("MCPACE_CACHE_URL"),
            master_key=key.encode(),
            health_port=int(os.environ.get("MCPACE_HEALTH_PORT", "8080")),
        )

    def derive(self, purpose: str, uid: str) -> str:
        """A server's own secret for one purpose: the same at every start, known to nobody else.

        Derived (HMAC-SHA-256, RFC 2104), not stored, so that the operator never reads a Secret.
        """
        return hmac.new(self.master_key, f"{purpose}/{uid}".encode(), hashlib.sha256).hexdigest()
