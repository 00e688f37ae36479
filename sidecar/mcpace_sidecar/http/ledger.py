"""Bytes that many hold together, up to a bound."""

from __future__ import annotations


class Ledger:
    """Who finds no room here must do without holding."""

    __slots__ = ("held", "most")

    def __init__(self, most: int) -> None:
        self.most = most
        self.held = 0

    def take(self, size: int) -> bool:
        """Hold so many bytes more; False: there is no room for them."""
        if self.held + size > self.most:
            return False
        self.held += size
        return True

    def give(self, size: int) -> None:
        """Hold so many bytes less."""
        self.held -= size
