"""One connection's head, with gaps where it differs from the next one: most clients repeat themselves."""

from __future__ import annotations

from mcpace_sidecar.http.head import RequestHead
from mcpace_sidecar.http.lines import APART, TRACE, Gap, is_trace

Read = tuple[RequestHead, bytes, bytes, tuple[bytes, ...]]
"""(the head, the line of its trace, its lines that vary, the values that are handed over apart)."""


class Template:
    """A head as it was read last, and how others are read that differ in its gaps alone."""

    __slots__ = ("_gaps", "_pieces", "apart", "head", "lines", "trace")

    def __init__(self, read: Read, pieces: list[bytes], gaps: list[Gap]) -> None:
        """`pieces`: the head's bytes around the gaps, one more than there are."""
        self.head, self.trace, self.lines, self.apart = read
        self._pieces = pieces
        self._gaps = gaps

    def fits(self, data: bytes) -> int:
        """Where the head ends that these bytes begin with; 0: it is another, or a gap holds what is odd.

        What stands in its gaps is this template's from then on.
        """
        piece = self._pieces[0]
        if not data.startswith(piece):
            return 0
        at = len(piece)
        if not self._gaps:
            return at
        trace, lines = b"", b""
        apart: list[bytes] | None = None
        for index, gap in enumerate(self._gaps):
            end = data.find(b"\r\n", at)
            piece = self._pieces[index + 1]
            if end < 0 or data[end : end + len(piece)] != piece:
                return 0
            value = data[at:end]
            if gap.kind == TRACE:
                if not is_trace(value):
                    return 0
                trace = data[at - gap.size : end + 2]
            elif not value.decode("latin-1").isprintable():
                return 0
            elif gap.kind == APART:
                if apart is None:
                    apart = [b""] * len(self.head.names.apart)
                elif apart[gap.place]:
                    return 0
                apart[gap.place] = value.strip(b" \t")
            else:
                lines = lines + data[at - gap.size : end + 2]
            at = end + len(piece)
        self.trace, self.lines = trace, lines
        if apart is not None:
            self.apart = tuple(apart) if any(apart) else ()
        return at

    def has(self, read: Read) -> bool:
        """Whether its gaps hold what was read otherwise: of lines the order does not count."""
        _, trace, lines, apart = read
        return (self.trace, len(self.lines), self.apart) == (trace, len(lines), apart)

    def is_like(self, head: RequestHead) -> bool:
        """Whether another head differs from this one in its gaps alone."""
        return self.head.base is head.base and self.head.length == head.length
