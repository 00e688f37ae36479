"""What sidecars say to each other, beside the calls that they pass on.

A relayed request is the client's, as the server would be sent it, under the id that the client knows. What
the owner says itself, and not its server, is a verdict.
"""

from __future__ import annotations

import base64
import re
from typing import Final

import msgspec

from mcpace_sidecar.http.downstream import length_line, status_line
from mcpace_sidecar.identity.client import Client
from mcpace_sidecar.sessions.sealing import Owner

EPOCH: Final = b"mcpace-epoch"
"""Of a request: the owner's start, and the epoch under which it is thought to hold the session. Of an
answer: the epoch, where that is another."""
BINDING: Final = b"mcpace-binding"
"""What tells the client's credential from others, in hex."""
CLIENT: Final = b"mcpace-client"
"""Whose call it is, as it was judged where it came in."""
ADOPT: Final = b"mcpace-adopt"
"""Asks to take a session over, from the owner and epoch that were seen."""
REASON: Final = b"mcpace-reason"
"""Why; and, where one ends that wants a younger heir, its age in seconds."""
ASKS: Final = "asks"
"""The reason of who only wants to know whether somebody has it."""
DRAINED: Final = "drained"
"""The reason of who ends, and still holds it."""
ANSWERS: Final = b"mcpace-answers"
"""Of the rest of a stream: what it answers, method and name, where who asks gives the result its shape."""
VERDICT: Final = b"mcpace-verdict"
READ: Final = frozenset({EPOCH, BINDING, CLIENT, ADOPT, REASON})
"""The fields of requests."""

MOVED: Final = b"moved"
"""It is another's: whose, follows."""
GONE: Final = b"gone"
"""It is not known here."""
ENDED: Final = b"ended"
"""Its client has ended it."""
AGAIN: Final = b"again"
"""Who was started anew here is about to learn it."""
UNREADY: Final = b"unready"
"""It cannot be taken over here."""
ELDER: Final = b"elder"
"""It could be, but this one will soon be replaced itself, as like as not."""


_known: Final = msgspec.json.Decoder(tuple[str, str | None, bool, str])
_answered: Final = msgspec.json.Decoder(tuple[str, str | None])
_LINES: Final = re.compile(rb"^mcpace-[^\r\n]*\r\n", re.IGNORECASE | re.MULTILINE)


def without(lines: bytes) -> bytes:
    """These header lines, without those that only sidecars tell each other."""
    return _LINES.sub(b"", lines) if b"mcpace-" in lines.lower() else lines


def told(client: Client) -> bytes:
    """What is told of a client, as a field's value."""
    known = client.name, client.tier, client.anonymous, client.subject
    return base64.b64encode(msgspec.json.encode(known))


def client_of(said: bytes | None) -> Client | None:
    """The client that was told of; None: none was."""
    try:
        name, tier, anonymous, subject = _known.decode(base64.b64decode(said or b""))
    except (ValueError, msgspec.DecodeError):
        return None
    return Client(name, tier, anonymous=anonymous, subject=subject)


def verdict(what: bytes, owner: Owner | None = None, epoch: int = 0) -> bytes:
    """The whole answer that says so (RFC 9110, section 15.5.20)."""
    whose = b" %b %d" % (str(owner).encode(), epoch) if owner is not None else b""
    return b"%bMcpace-Verdict: %b%b\r\n" % (status_line(421), what, whose)


def whose(said: bytes) -> tuple[Owner, int] | None:
    """Owner and epoch, of a verdict or of what asks to adopt; None: it names none."""
    try:
        owner, _, epoch = said.decode().removeprefix("moved ").rpartition(" ")
        return Owner.read(owner), int(epoch)
    except ValueError:
        return None


def is_elder(reason: bytes, age: float) -> bool:
    """Whether a reason says that younger ones are wanted, of which one of this age in seconds is none.

    In a rollout those that are less than half as old as who ends have been replaced: a session that goes
    to one of them moves no second time.
    """
    _, _, oldest = reason.partition(b" ")
    return oldest.isdigit() and 2 * age > int(oldest)


def answering(method: str, target: str | None) -> bytes:
    """The line that says what the rest of a stream answers."""
    return b"Mcpace-Answers: %b\r\n" % msgspec.json.encode((method, target)).hex().encode()


def answered(said: bytes | None) -> tuple[str, str | None] | None:
    """Method and name that such a line says; None: none."""
    try:
        return _answered.decode(bytes.fromhex(said.decode())) if said else None
    except ValueError:  # a msgspec.DecodeError, too
        return None


def epoch_of(said: bytes | None) -> tuple[int, int]:
    """The start and the epoch that a request names."""
    boot, _, epoch = (said or b"").partition(b" ")
    return (int(boot), int(epoch)) if boot.isdigit() and epoch.isdigit() else (-1, -1)


def adoption(
    target: bytes, lines: bytes, session_id: bytes, seen: tuple[Owner, int], binding: bytes, reason: str
) -> bytes:
    """The request to take a session over."""
    return (
        b"POST %b HTTP/1.1\r\n%bContent-Type: application/json\r\nMcp-Session-Id: %b\r\n"
        b"Mcpace-Adopt: %b %d\r\nMcpace-Binding: %b\r\nMcpace-Reason: %b\r\n%b"
    ) % (
        target, lines, session_id, str(seen[0]).encode(), seen[1], binding.hex().encode(), reason.encode(),
        length_line(0),
    )  # fmt: skip
