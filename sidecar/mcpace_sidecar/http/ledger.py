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


class Holding:
    """What one holder has of a ledger, as it grows and shrinks."""

    __slots__ = ("_ledger", "size")

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self.size = 0

    def resize(self, size: int) -> bool:
        """Hold so many bytes in all; False: there is no room, or too much is held together."""
        if size > self.size and not self._ledger.take(size - self.size):
            return False
        if size < self.size:
            self._ledger.give(self.size - size)
        self.size = size
        return True
