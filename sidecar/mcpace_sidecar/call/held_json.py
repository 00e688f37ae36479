"""Streaming JSON: held until it is whole, up to a bound; of more the top level is read on the way."""

from __future__ import annotations

from typing import Final

from mcpace_sidecar.call.answer import Answer
from mcpace_sidecar.call.flow import Flow, Flowing, status_of
from mcpace_sidecar.call.stream import Stream, Streamed
from mcpace_sidecar.http.head import ResponseHead
from mcpace_sidecar.http.ledger import Holding, Ledger
from mcpace_sidecar.mcp import answers, ids
from mcpace_sidecar.mcp.outline import Outline

MOST_READ: Final = 8 * 1024 * 1024
"""Bytes of JSON that are held until they are whole, to be kept or cut into pages."""
MOST_JUDGED: Final = 1024 * 1024
"""Bytes of JSON that are held until they are whole, to be judged alone."""
_SHORT: Final = 64 * 1024
"""Bytes of JSON up to which it is likely to come whole: nothing of it is looked at before."""
_SIGN: Final = 16
"""Bytes that a sign of an error may have on either side of a cut."""


class HeldJson(Stream):
    """JSON that is held until it is whole, and so can be answered whole."""

    def __init__(
        self, call: Streamed, answer: Answer, head: ResponseHead, gathered: Ledger, most: int
    ) -> None:
        """`most`: bytes beyond which it is let go of."""
        super().__init__()
        self._call = call
        self._answer = answer
        self._head = head
        self._most = most
        self._too_long = (head.length or 0) > most
        """Whether it is known that it will be let go of: as soon as it is known whose it is."""
        self._come = 0
        self._held: list[bytes] = []
        self._holding = Holding(gathered)
        self._seen: Seen | None = None

    def piece(self, piece: bytes) -> None:
        """Hold it, or let all go where it is too much."""
        self._held.append(piece)
        self._come += len(piece)
        if self._come > _SHORT:
            if self._come - len(piece) <= _SHORT:
                self._held = [piece := b"".join(self._held)]
            known = self._look_at(piece).outline.done
            if known and self._too_long:
                self._let_go(b"".join(self._held))
                return
        if self._come > self._most or not self._holding.resize(self._come):
            self._let_go(b"".join(self._held))

    def end(self) -> None:
        """Answer whole."""
        self._call.take_answer(self._head, b"".join(self._held))

    def release(self) -> None:
        """Hold nothing more."""
        self._held = []
        self._holding.resize(0)

    def bears(self, message_id: bytes) -> bool:
        """Whether what is held does."""
        self._held = [b"".join(self._held)]
        return answers.bears(self._held[0], message_id)

    def _let_go(self, whole: bytes) -> None:
        """Pass on what is too large, unless it is known to answer another request."""
        self.release()
        seen = self._seen or self._look_at(whole)
        seen.outline.flush()
        if seen.is_anothers(self._call):
            self._call.strayed()
            return
        head = self._head
        self._answer.begin(
            self._call.lines(head) + self._answer.limit_lines, head.length, head.status, events=False
        )
        flow = Flow(self._answer, come=self._come)
        self._answer.stream = TappedJson(self._call, flow, head, seen, whole)

    def _look_at(self, piece: bytes) -> Seen:
        seen = self._seen = self._seen or Seen()
        seen.look_at(piece)
        return seen


class TappedJson(Flowing):
    """JSON too large to be held: its top level is read, a piece ahead of what passes."""

    def __init__(self, call: Streamed, flow: Flow, head: ResponseHead, seen: Seen, last: bytes) -> None:
        """`last`: what has been read, and is passed on when the next piece, or the end, has come."""
        super().__init__(flow)
        self._call = call
        self._head = head
        self._seen = seen
        self._last = last

    def piece(self, piece: bytes) -> None:
        """Read it, and pass on the one before."""
        self._flow.come += len(piece)
        self._seen.look_at(piece)
        if self._seen.is_anothers(self._call):
            self._call.strayed()
            return
        self._last, piece = piece, self._last
        self._flow.say(piece)

    def end(self) -> None:
        """Pass on the last, unless it shows that all was for somebody else."""
        self._seen.outline.flush()
        if self._seen.is_anothers(self._call):
            self._call.strayed()
            return
        self._flow.say(self._last)
        self._flow.settle(status_of(self._head.status, ok=not self._seen.suspect))

    def release(self) -> None:
        """What is held is one piece."""
        self._last = b""

    def bears(self, message_id: bytes) -> bool:
        """Whether its top level does."""
        self._seen.outline.flush()
        return ids.same_id(self._seen.outline.id, message_id)


class Seen:
    """What has been seen of JSON that is too large to be read."""

    def __init__(self) -> None:
        self.outline = Outline()
        self.suspect = False
        """Whether it looks like an error."""
        self._tail = b""

    def look_at(self, piece: bytes) -> None:
        """Read its top level, and scan it for signs of an error."""
        self.outline.feed(piece)
        cut = self._tail + piece[:_SIGN]
        self.suspect = self.suspect or answers.suspect(piece) or answers.suspect(cut)
        self._tail = piece[-_SIGN:] if len(piece) > _SIGN else cut[-_SIGN:]

    def is_anothers(self, call: Streamed) -> bool:
        """Whether it is known to answer another request."""
        outline = self.outline
        return (
            outline.done and outline.is_response and call.is_anothers(outline.id, is_error=outline.is_error)
        )
