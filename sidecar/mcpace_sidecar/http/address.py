"""Where somebody listens."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Address:
    """A host and a port."""

    host: str
    """A name or an address; `localhost` is the loopback of both families."""
    port: int

    @property
    def hosts(self) -> tuple[str, ...]:
        """The addresses to try, in this order."""
        return ("127.0.0.1", "::1") if self.host == "localhost" else (self.host,)

    @property
    def is_loopback(self) -> bool:
        """Whether nobody else reaches what listens there."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"
