"""What this replica knows of sessions: which process of the server holds each, what it was told. Pure."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from time import monotonic
from typing import Final, NamedTuple

import msgspec

from mcpace_sidecar.bounded import SWEPT, Round, make_room
from mcpace_sidecar.contract.config.sessions import Sessions
from mcpace_sidecar.contract.quantity import seconds
from mcpace_sidecar.mcp.jsonrpc import Told
from mcpace_sidecar.sessions.record import Found, Record, Records
from mcpace_sidecar.sessions.sealing import Owner, Sealed, Sealer
from mcpace_sidecar.sessions.session import Session, is_later

MOST: Final = 10_000
"""Sessions of which more is known than their ids carry."""
MOST_SUBSCRIPTIONS: Final = 256
MOST_TOLD: Final = 8 * 1024
"""Bytes of what one session has told the server that are remembered."""
MOST_INITIALIZE: Final = 8 * 1024
"""Bytes of `initialize` params that are recorded where an id does not carry them."""
MOST_TOLD_BY_ALL: Final = 8 * 1024 * 1024
_LONGEST_LEVEL: Final = 32
RENEWED: Final = 60.0
"""Seconds between two times that a session's record is kept for longer, at least."""
_TOMBSTONES: Final = 50_000
_LONGEST_INNER: Final = 256
"""Bytes of a server's own id that is remembered of a session that is forgotten."""


class Moved(NamedTuple):
    """Where a session that is forgotten has gone, and whose it is: its id says how it began."""

    owner: Owner
    epoch: int
    inner: bytes
    spoken: bytes
    binding: bytes
    holder: str
    rebound: bool


_decoder: Final = msgspec.json.Decoder(Told)


class Table:
    """The sessions of one server that this replica has lately heard of, bounded."""

    def __init__(self, sealer: Sealer, owner: Owner, most: int = MOST) -> None:
        """`owner`: this sidecar; `most`: sessions that are known at once."""
        self._sealer = sealer
        self.owner = owner
        self._name = b""
        self._most = most
        self._known: dict[bytes, Session] = {}
        """By id."""
        self._round = Round(self._known)
        self._told = 0
        """Bytes of all their subscriptions."""
        self._moved: dict[bytes, Moved] = {}
        """Of those that were forgotten, by key: the server may hold them for longer than is known here."""
        self._tombs: dict[bytes, None] = {}
        """The keys of sessions that have ended."""
        self.mints = False
        """Whether the server is known to have sessions."""
        self.records: Records | None = None
        """What other sidecars are told of them; None: there are no others."""
        self.on_passed: Callable[[Session], None] | None = None
        """Told of a session that is about to be another's, though nobody here has asked for that."""
        self.adopt(Sessions())

    def adopt(self, config: Sessions) -> None:
        """Use this from the next request on."""
        self._max_age = seconds(config.max_age)
        self._idle = seconds(config.idle_timeout)
        if self.records is not None:
            self.records.idle_timeout, self.records.max_age = int(self._idle), int(self._max_age)
        self.revives: bool = config.on_loss == "revive"
        """Whether sessions that the server has lost are begun again."""

    def __len__(self) -> int:
        return len(self._known)

    def find(self, session_id: bytes) -> Session | None:
        """The session of this id; None: there is none, or none any more."""
        known = self._known.get(session_id)
        if known is not None:
            return known
        opened = self._sealer.open(session_id)
        if opened is None:
            return None
        self.mints = True
        key, sealed = opened
        session = Session(session_id, key, sealed)
        if key in self._tombs:
            return None
        moved = self._moved.pop(key, None)
        if moved is not None:
            session.owner, session.epoch, session.inner, session.spoken = moved[:4]
            session.binding, session.holder, session.rebound = moved[4:]
        session.here = self._is_here(session.owner)
        if session.here:
            session.owner = self.owner
        if len(self._known) >= self._most:
            self._make_room()
        session.used = session.renewed = monotonic()
        self._known[session_id] = session
        if session.here and self.records is not None:
            self._ask(session, self.records)
        return None if session.ended else session

    def learn(self, session: Session, method: str, params: bytes) -> None:
        """The server has taken what it was told in a session; there is room for so much of it."""
        try:
            told = _decoder.decode(params)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return
        if session.ended or session.forgotten:
            return
        uri, level = bytes(told.uri), bytes(told.level)
        if method == "logging/setLevel":
            if len(level) <= _LONGEST_LEVEL:
                session.level = level
            return
        self._told -= session.told
        if method == "resources/unsubscribe":
            session.subscriptions = tuple(each for each in session.subscriptions if each != uri)
        elif (
            uri not in session.subscriptions
            and len(session.subscriptions) < MOST_SUBSCRIPTIONS
            and session.told + len(uri) <= MOST_TOLD
            and self._told + session.told + len(uri) <= MOST_TOLD_BY_ALL
        ):
            session.subscriptions = (*session.subscriptions, uri)
        self._told += session.told

    def mint(self, inner: bytes, version: bytes, initialize: bytes, binding: bytes) -> bytes:
        """The id that a client is given for a session that the server has begun."""
        self.mints = True
        sealed = Sealed(int(time.time()), self.owner, binding, version, inner, initialize)
        session_id = self._sealer.seal(sealed)
        opened = self._sealer.open(session_id) if self.records is not None else None
        if opened is not None and self.records is not None:
            key, sealed = opened
            lacks = b"" if sealed.initialize or len(initialize) > MOST_INITIALIZE else initialize
            record = Record(self.owner, 0, inner, version, lacks, binding=binding)
            self.records.write(key, record, lambda _: None)
        return session_id

    def _is_here(self, owner: Owner) -> bool:
        """Whether a session of this owner's is held here: a sidecar that was started anew has its place."""
        return self.records is None or owner.place == self.owner.place or owner.port == 0

    def keep(self, session: Session) -> None:
        """Tell other sidecars what there is to know of a session that is held here."""
        records = self.records
        if records is None or not session.here:
            return

        def told(is_ours: bool | None) -> None:
            if is_ours is None:
                session.renewed = -RENEWED  # said again with the next sweep
            elif not is_ours:
                self._ask(session, records)

        session.renewed = monotonic()
        session.recorded = records.write(session.key, self.record(session), told, session.recorded)

    def _ask(self, session: Session, records: Records) -> None:
        """What others know of a session that was thought to be held here."""

        def told(found: Found) -> None:
            if found.ended:
                self._bury(session)
            elif found.record is not None:
                if not self.follow(session, found.record):
                    self.recall(session, found.record)
                session.recorded = session.recorded or found.record.size

        records.read(session.key, told)

    def record(self, session: Session) -> Record:
        """A session, as other sidecars know it."""
        return Record(
            self.owner, session.epoch, session.inner, session.version,
            session.initialize, session.level, session.subscriptions, session.binding,
        )  # fmt: skip

    def follow(self, session: Session, record: Record) -> bool:
        """Heed what others know of it, if that is later than what is known here: an epoch only rises."""
        if not is_later(session, record.owner, record.epoch):
            return False
        self._take(session, record)
        self._pass(session, record.owner, record.epoch, record.inner)
        return True

    def move(self, session: Session, owner: Owner, epoch: int) -> bool:
        """Heed who is said to hold a session; False: nothing later than what is known here."""
        if self._is_here(owner) or not is_later(session, owner, epoch):
            return False
        self._pass(session, owner, epoch, b"")
        return True

    def _pass(self, session: Session, owner: Owner, epoch: int, inner: bytes) -> None:
        here = self._is_here(owner)
        passed_over = session.here and not here and session.inner and session.reviving is None
        if passed_over and self.on_passed is not None:
            self.on_passed(session)
        session.owner, session.epoch, session.inner, session.here = owner, epoch, inner, here
        if session.listener is not None and session.reviving is None:
            session.listener.moved()

    def recall(self, session: Session, record: Record) -> None:
        """Heed what its record says, unless it is held here, and known: the record may be older then."""
        if not (session.here and (session.recorded or session.level or session.subscriptions)):
            self._take(session, record)

    def _take(self, session: Session, record: Record) -> None:
        counts = not (session.ended or session.forgotten)
        self._told -= session.told if counts else 0
        session.level, session.subscriptions = record.level, record.subscriptions
        if record.version not in (b"", session.version):  # what is the same is held once
            session.version = record.version
        if record.binding not in (b"", session.binding):
            session.binding = record.binding
        if record.initialize and not self.initialize(session):
            session.initialize = record.initialize
        self._told += session.told if counts else 0

    @property
    def name(self) -> bytes:
        """What this sidecar is called in ids of events."""
        if not self._name:
            self._name = self._sealer.name_of(self.owner)
        return self._name

    def named(self, name: bytes) -> Owner | None:
        """The sidecar that is called so; None: there is none."""
        return self._sealer.named(name)

    def endpoint(self, binding: bytes) -> bytes:
        """What this sidecar adds to the endpoint of a stream of 2024-11-05. `binding`: of who opened it."""
        return self._sealer.endpoint(self.owner, binding)

    def holder(self, name: bytes) -> tuple[Owner, bytes] | None:
        """The sidecar that has added this, and the binding of who opened the stream; None: none has."""
        return self._sealer.holder(name)

    def initialize(self, session: Session) -> bytes:
        """The params of the client's `initialize`; empty where its id does not carry them."""
        opened = self._sealer.open(session.id)
        return opened[1].initialize if opened is not None else b""

    def binding(self, credential: Sequence[bytes], *, known: bool) -> bytes:
        """What tells this credential from others. `known`: whether the client is."""
        return self._sealer.binding(credential, known=known)

    def is_old(self, session: Session) -> bool:
        """Whether it is too old to be begun again."""
        return time.time() - session.issued > self._max_age

    def end(self, session: Session) -> None:
        """It has ended: nobody begins it again."""
        self._bury(session)
        if self.records is not None:
            self.records.end(session.key)

    def has_ended(self, session_id: bytes) -> bool:
        """Whether the session of this id is known to have ended."""
        opened = self._sealer.open(session_id)
        return opened is not None and opened[0] in self._tombs

    def _bury(self, session: Session) -> None:
        if self._known.pop(session.id, None) is not None:
            self._told -= session.told
        session.ended = True
        make_room(self._tombs, _TOMBSTONES)
        self._tombs[session.key] = None

    def sweep(self, now: float) -> None:
        """Forget some of those that are idle, and say of some that they live."""
        for session_id in self._round.some(SWEPT):
            session = self._known[session_id]
            listened = session.listener is not None
            if now - session.used > self._idle and not listened and session.reviving is None:
                self._forget(session)
            elif session.renewed + RENEWED < (now if listened else session.used):
                self.keep(session)  # who was away learns here that it is another's by now

    def _make_room(self) -> None:
        """Forget a sixteenth, of whoever has most those unused the longest: a flood costs the flooder."""
        lately = sorted(self._known.values(), key=lambda s: (s.listener is not None, s.used), reverse=True)
        count: dict[str, int] = {}
        ranked: list[tuple[int, int]] = []
        for place, session in enumerate(lately):
            rank = count[session.client] = count.get(session.client, 0) + 1
            if session.reviving is None:
                ranked.append((rank, place))
        ranked.sort(reverse=True)
        for _, place in ranked[: max(1, len(ranked) // 16)]:
            self._forget(lately[place])

    def _forget(self, session: Session) -> None:
        self._told -= session.told
        session.forgotten = True
        del self._known[session.id]
        if (session.epoch or session.rebound) and len(session.inner) <= _LONGEST_INNER:
            make_room(self._moved, 2 * self._most)
            self._moved[session.key] = Moved(
                session.owner, session.epoch, session.inner, session.spoken, session.binding,
                session.holder, session.rebound,
            )  # fmt: skip
