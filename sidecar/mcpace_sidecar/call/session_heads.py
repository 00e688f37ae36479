"""The head of a session's requests as it is sent on: to the server, or to the sidecar that has it."""

from __future__ import annotations

import re
from typing import Final

from mcpace_sidecar.http.head import ResponseHead
from mcpace_sidecar.identity.client import Client
from mcpace_sidecar.relay import peer
from mcpace_sidecar.sessions.sealing import Owner
from mcpace_sidecar.sessions.session import Session

_SESSION: Final = re.compile(rb"^mcp-session-id:[^\r\n]*\r\n", re.IGNORECASE | re.MULTILINE)
_VERSION: Final = re.compile(rb"^mcp-protocol-version:[^\r\n]*\r\n", re.IGNORECASE | re.MULTILINE)
_LAST_EVENT: Final = re.compile(rb"^last-event-id:[^\r\n]*\r\n", re.IGNORECASE | re.MULTILINE)

_LONGEST_RENAMED: Final = 2048
"""Bytes of an answer's lines that are remembered for the next one."""


class SessionHeads:
    """Both, as long as the session stays where it is.

    Neither has the id of an event that its client asks to go on from: that is ours.
    """

    __slots__ = (
        "_binding", "_client", "_epoch", "_owner", "_renamed", "_renamed_from", "_to_peer", "_to_server",
    )  # fmt: skip

    def __init__(self) -> None:
        self._epoch = -1
        self._owner: Owner | None = None
        self._binding = b""
        self._client: Client | None = None
        self._to_server = self._to_peer = b""
        self._renamed = self._renamed_from = b""

    def _follow(self, session: Session) -> None:
        if session.epoch != self._epoch or session.owner is not self._owner:
            self._epoch, self._owner = session.epoch, session.owner
            self._to_server = self._to_peer = b""

    def to_server(self, onward: bytes, session: Session) -> bytes:
        """With the id by which the server knows the session, in the version that it speaks."""
        self._follow(session)
        if not self._to_server:
            line = b"Mcp-Session-Id: %b\r\n" % session.inner
            head = _SESSION.sub(lambda _: line, _LAST_EVENT.sub(b"", onward), count=1)
            if session.spoken:
                line = b"MCP-Protocol-Version: %b\r\n" % session.spoken
                head = _VERSION.sub(lambda _: line, head, count=1)
            self._to_server = head
        return self._to_server

    def to_peer(self, onward: bytes, session: Session, client: Client | None, binding: bytes) -> bytes:
        """With what its sidecar checks. `binding`: what tells the client's credential from others."""
        self._follow(session)
        if not self._to_peer or client is not self._client or binding != self._binding:
            self._client, self._binding = client, binding
            self._to_peer = b"%bMcpace-Epoch: %d %d\r\nMcpace-Binding: %b\r\n" % (
                _LAST_EVENT.sub(b"", peer.without(onward)), session.owner.boot, session.epoch,
                binding.hex().encode(),
            )  # fmt: skip
            if client is not None:
                self._to_peer += b"Mcpace-Client: %b\r\n" % peer.told(client)
        return self._to_peer

    def renamed(self, head: ResponseHead, name: bytes) -> bytes:
        """The lines of an answer's head with the id by which the client knows the session."""
        if head.onward is self._renamed_from:  # servers repeat themselves
            return self._renamed
        renamed = head.onward.replace(head.session_line, b"mcp-session-id: %b\r\n" % name, 1)
        if len(renamed) <= _LONGEST_RENAMED:
            self._renamed_from, self._renamed = head.onward, renamed
        return renamed
