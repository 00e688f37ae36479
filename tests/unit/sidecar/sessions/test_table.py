"""What is known of sessions: bounded, and forgotten at the expense of whoever has the most."""

import time

from mcpace_sidecar.contract.config.sessions import Sessions
from mcpace_sidecar.sessions.memory import MemoryRecords
from mcpace_sidecar.sessions.record import Record
from mcpace_sidecar.sessions.sealing import UNBOUND, Owner, Sealed, Sealer
from mcpace_sidecar.sessions.session import Session
from mcpace_sidecar.sessions.table import MOST_SUBSCRIPTIONS, MOST_TOLD, Table

KEY = b"k" * 32
OWNER = Owner("127.0.0.1", 0, 1)


def table(most: int = 100, **config: str) -> Table:
    made = Table(Sealer("ns/one", [KEY]), OWNER, most)
    made.adopt(Sessions(**config))
    return made


def begun(known: Table, client: str = "") -> Session:
    session = known.find(known.mint(b"inner", b"2025-11-25", b"{}", UNBOUND))
    assert session is not None
    session.client = client
    return session


def test_a_session_is_found_by_its_id_and_another_process_finds_it_too() -> None:
    first = table()
    session = begun(first)
    assert first.find(session.id) is session
    assert (session.inner, session.version, session.epoch) == (b"inner", b"2025-11-25", 0)
    again = table().find(session.id)
    assert again is not None
    assert again.key == session.key


def test_an_id_alone_takes_no_room() -> None:
    known = table()
    for _ in range(1000):
        known.mint(b"inner", b"2025-11-25", b"{}", UNBOUND)
    assert len(known) == 0


def test_a_flood_forgets_the_flooders_own() -> None:
    known = table(most=100)
    honest = [begun(known, "honest") for _ in range(10)]
    for _ in range(1000):
        begun(known, "flood")
    assert len(known) <= 100
    assert not any(session.forgotten for session in honest)


def test_room_among_many_clients_is_made_for_many() -> None:
    known = table(most=1600)
    for number in range(1600):
        begun(known, f"client {number}")
    begun(known, "one more")
    assert len(known) == 1501, "or each that comes would have all looked at again"


def test_what_was_forgotten_is_found_again_as_its_id_says() -> None:
    known = table(most=10)
    first = begun(known)
    known.learn(first, "logging/setLevel", b'{"level":"info"}')
    for _ in range(20):
        begun(known)
    assert first.forgotten
    again = known.find(first.id)
    assert again is not None
    assert (again.inner, again.epoch, again.binding, again.level) == (b"inner", 0, UNBOUND, b"")


def test_one_that_has_moved_is_found_where_it_went_however_long_it_was_forgotten() -> None:
    known = table(idleTimeout="1m")
    session = begun(known)
    session.inner, session.spoken, session.epoch = b"other", b"2025-06-18", 3
    assert session.accepted(b"8 bytes!", "")
    for _ in range(2):
        known.sweep(time.monotonic() + 3600)
        assert len(known) == 0
        again = known.find(session.id)
        assert again is not None
        assert again is not session
        assert (again.inner, again.spoken, again.epoch) == (b"other", b"2025-06-18", 3)
        assert (again.binding, again.rebound) == (b"8 bytes!", True)
        session = again
    known.end(session)
    assert known.find(session.id) is None


def test_a_known_clients_session_follows_what_that_client_shows_beside_and_no_other_client() -> None:
    sealer = Sealer("ns/one", [KEY])
    key, renewed, others = (
        sealer.binding((b"anna", b"token 1"), known=True),
        sealer.binding((b"anna", b"token 2"), known=True),
        sealer.binding((b"bert",), known=True),
    )
    session = begun(table())
    session.binding = key
    assert not session.accepted(renewed, "anna"), "nobody has shown that it is hers"
    assert not session.accepted(key, "anna")
    assert not session.accepted(others, "bert")
    assert not session.accepted(sealer.binding((b"token",)), "")
    assert not session.accepted(key, ""), "as another replica says it"
    assert session.accepted(renewed, "anna")
    assert session.binding == renewed


def test_any_other_session_is_whose_the_server_says_it_is() -> None:
    sealer = Sealer("ns/one", [KEY])
    session = begun(table())
    for token in (b"first", b"renewed"):
        assert session.accepted(sealer.binding((token,)), "")
    assert session.accepted(sealer.binding((b"anna",), known=True), "anna")
    assert not session.accepted(sealer.binding((b"renewed",)), "")


def test_there_is_room_for_so_many_that_have_moved() -> None:
    known = table(most=50)
    for number in range(1000):
        session = begun(known)
        session.epoch, session.inner = 1, b"other" if number % 2 else b"long" * 100
    assert 50 < len(known._moved) <= 100
    assert {moved.inner for moved in known._moved.values()} == {b"other"}


def test_an_idle_session_is_forgotten_and_one_that_is_listened_to_is_not() -> None:
    known = table(idleTimeout="1m")
    idle, heard = begun(known), begun(known)

    class Nobody:
        def moved(self) -> None: ...

    heard.listener = Nobody()
    now = time.monotonic()
    known.sweep(now + 59)
    known.sweep(now + 59)
    assert len(known) == 2
    known.sweep(now + 62)
    known.sweep(now + 62)
    assert (idle.forgotten, heard.forgotten) == (True, False)


def test_an_ended_session_is_not_found_again() -> None:
    known = table()
    session = begun(known)
    known.end(session)
    assert known.find(session.id) is None
    assert session.ended


def test_one_too_old_is_found_and_said_to_be_old() -> None:
    known = table(maxAge="1h")
    aged = Sealed(int(time.time()) - 3601, OWNER, UNBOUND, b"2025-11-25", b"inner", b"{}")
    session = known.find(Sealer("ns/one", [KEY]).seal(aged))
    assert session is not None, "it may live"
    assert known.is_old(session)


def test_what_the_server_was_told_is_remembered() -> None:
    known = table()
    session = begun(known)
    known.learn(session, "logging/setLevel", b'{"level":"info"}')
    known.learn(session, "resources/subscribe", b'{"uri":"a:1"}')
    known.learn(session, "resources/subscribe", b'{"uri":"a:2"}')
    known.learn(session, "resources/subscribe", b'{"uri":"a:2"}')
    known.learn(session, "resources/unsubscribe", b'{"uri":"a:1"}')
    assert (session.level, session.subscriptions) == (b'"info"', (b'"a:2"',))
    for number in range(2 * MOST_SUBSCRIPTIONS):
        known.learn(session, "resources/subscribe", b'{"uri":"b:%d"}' % number)
    assert len(session.subscriptions) == MOST_SUBSCRIPTIONS


def test_an_older_record_takes_nothing_from_what_the_holder_of_a_session_knows() -> None:
    other = Owner("127.0.0.9", 1, 1)
    known = table()
    known.records = MemoryRecords()
    session = begun(known)
    older = known.record(session)
    known.learn(session, "logging/setLevel", b'{"level":"info"}')
    known.learn(session, "resources/subscribe", b'{"uri":"a:1"}')
    known.recall(session, older)
    assert (session.level, session.subscriptions) == (b'"info"', (b'"a:1"',)), (
        "the store was away meanwhile"
    )
    later = older._replace(owner=other, epoch=1, level=b'"error"')
    assert known.follow(session, later)
    assert (session.level, session.subscriptions, session.owner) == (b'"error"', (), other)
    known.recall(session, later._replace(level=b'"debug"'))
    assert session.level == b'"debug"', "it is not held here"


def test_what_many_sessions_have_in_common_is_held_once() -> None:
    known = table()
    session = begun(known)
    fields = {name: bytes(bytearray(value)) for name, value in known.record(session).fields().items()}
    record = Record.of(fields)  # as a store says it
    assert record.version is not session.version
    known.recall(session, record)
    others = begun(known)
    assert session.version is others.version
    assert session.binding is others.binding
    assert session.owner is others.owner


def test_a_sidecar_that_was_started_anew_learns_what_was_recorded() -> None:
    known = table()
    session = begun(known)
    known.recall(session, known.record(session)._replace(level=b'"info"', subscriptions=(b'"a:1"',)))
    assert (session.level, session.subscriptions) == (b'"info"', (b'"a:1"',))


def test_there_is_room_for_so_much_of_what_a_session_was_told() -> None:
    known = table()
    session = begun(known)
    known.learn(session, "resources/subscribe", b'{"uri":"%b"}' % (b"u" * MOST_TOLD))
    known.learn(session, "logging/setLevel", b'{"level":"%b"}' % (b"l" * 100))
    assert (session.level, session.subscriptions) == (b"", ())
    for number in range(1000):
        known.learn(session, "resources/subscribe", b'{"uri":"%b%d"}' % (b"u" * 1000, number))
    assert session.told <= MOST_TOLD
    assert len(session.subscriptions) > 1
