"""What was said on streams of sessions, and for how long it is held."""

import pytest

from mcpace_sidecar.call import recording
from mcpace_sidecar.call.recording import AWAY, MOST_OF_ONE, Recording, Recordings
from mcpace_sidecar.sessions import event_ids

PROCESS = event_ids.process_of(b"inner")
EVENT = b"data: {}\n\n"


class Answering:
    def __init__(self, recordings: Recordings) -> None:
        self.recordings = recordings
        self.abandoned = 0
        self.recording: Recording | None = None

    def abandon(self) -> None:
        self.abandoned += 1
        assert self.recording is not None
        self.recordings.close(self.recording, 0.0)


def made(most: int = recording.MOST) -> Recordings:
    recordings = Recordings()
    recordings.name = b"here"
    recordings.ledger.most = most
    return recordings


def begun(
    recordings: Recordings, session: bytes = b"s", client: str = "c", kind: bytes = event_ids.MESSAGE
) -> tuple[Recording, Answering]:
    answering = Answering(recordings)
    found = recordings.begin(answering, session, kind, b"7", b"", client)
    assert found is not None
    found.hear(PROCESS)
    answering.recording = found
    return found, answering


def test_events_are_numbered_and_what_came_after_one_is_said_again() -> None:
    stream, _ = begun(made())
    said = [b"".join(stream.add(b"event: message\ndata: %d\n\n" % n)) for n in range(3)]
    said.append(b"".join(stream.add(EVENT, last=True)))
    assert said[0].startswith(b"id: m.here.1.%b." % PROCESS)
    assert said[3].startswith(b"id: e.here.1.%b." % PROCESS)
    assert [stream.after(n) for n in range(5)] == [
        b"".join(said), b"".join(said[1:]), b"".join(said[2:]), said[3], b"",
    ]  # fmt: skip
    assert stream.after(5) is None, "nobody has heard that"


def test_the_servers_own_id_goes_into_ours_and_stays_until_the_next_one() -> None:
    stream, _ = begun(made())
    ids = [
        event_ids.read(stream.add(event)[0][4:-1])
        for event in (b"id: one\n" + EVENT, EVENT, b"\r\nid:two\r\ndata: x\r\n\r\n")
    ]
    assert [each.theirs if each else None for each in ids] == [b"one", b"one", b"two"]
    assert b"two" not in (stream.after(2) or b"")
    assert (stream.after(2) or b"").endswith(b"\ndata: x\r\n\r\n")
    stream.hear(event_ids.process_of(b"another"))
    place = event_ids.read(stream.add(EVENT)[0][4:-1])
    assert place is not None
    assert place.theirs == b"", "another process knows nothing of it"


def test_of_one_stream_the_last_events_are_held() -> None:
    stream, _ = begun(made())
    large = b"data: %b\n\n" % (b"x" * (MOST_OF_ONE // 3))
    for _ in range(5):
        stream.add(large)
    assert stream.size <= MOST_OF_ONE
    assert stream.after(2) is None
    assert (stream.after(3) or b"").count(b"data: ") == 2
    stream.add(b"data: %b\n\n" % (b"x" * MOST_OF_ONE))
    assert stream.after(5) is None
    assert stream.after(6) == b""


def test_where_there_is_no_room_what_has_ended_goes_first_then_the_one_with_the_most() -> None:
    recordings = made(64 * 1024)
    ended, _ = begun(recordings, client="old")
    ended.add(EVENT, last=True)
    recordings.close(ended, 0.0)
    small, _ = begun(recordings, client="small")
    small.add(EVENT)
    hoards = [begun(recordings, client="hoards")[0] for _ in range(8)]
    for _ in range(40):
        for each in hoards:
            each.add(b"data: %b\n\n" % (b"x" * 1000))
            assert recordings.ledger.held <= recordings.ledger.most
    assert recordings.find(b"s", ended.stream) is None
    assert small.after(0) is not None, "another client's is held"
    assert hoards[0].after(0) is None


def test_room_is_made_at_once_however_many_clients_hold_it() -> None:
    """Small ones keep what they have as long as others have more, and nobody looks at all for each event."""
    recordings = made(16 * 1024 * 1024)
    small = [begun(recordings, client=f"small {n}")[0] for n in range(2000)]
    for each in small:
        each.add(b"data: %b\n\n" % (b"x" * 2000))
    large = [begun(recordings, client=f"large {n}")[0] for n in range(200)]
    for each in large:
        for _ in range(20):
            each.add(b"data: %b\n\n" % (b"x" * 2000))
    looks, before = 0, recordings.events
    for n in range(10_000):
        large[n % 200].add(b"data: %b\n\n" % (b"x" * 2000))
        assert recordings.ledger.held <= recordings.ledger.most
        looks += recordings.events < before
        before = recordings.events
    assert 0 < looks < 40, "each makes a sixteenth of all room"
    assert all(each.after(0) is not None for each in small)


def test_where_streams_alone_take_the_room_no_event_has_all_of_them_looked_at() -> None:
    recordings = made(1024 * 1024)
    streams = [begun(recordings, client=str(n))[0] for n in range(1023)]
    assert not recordings._make_room()
    for each in streams:
        each.add(EVENT * 100)
        assert each.after(0) is None, "there was no room"
    assert recordings.ledger.held <= recordings.ledger.most


def test_what_makes_room_of_itself_still_says_each_event_once() -> None:
    stream, _ = begun(made(most=2000))
    for n in range(9):
        stream.add(b"data: %d%b\n\n" % (n, b"x" * 400))
        assert stream.after(stream.number) == b""
        rest = stream.after(stream.number - 1)
        assert rest is None or rest.count(b"data: ") == 1, "held, or not"


def test_a_stream_goes_on_without_its_client_for_a_while() -> None:
    recordings = made()
    stream, answering = begun(recordings)
    assert not recordings.leave(stream, 1.0), "its client has no id to come back with"
    stream.add(EVENT)
    assert recordings.leave(stream, 1.0)
    recordings.sweep(AWAY)
    assert not answering.abandoned
    recordings.come_back(stream)
    recordings.sweep(10 * AWAY)
    assert recordings.leave(stream, 1.0)
    recordings.sweep(AWAY + 1.1)
    assert answering.abandoned == 1
    assert (len(recordings), recordings.ledger.held, len(recordings.away)) == (0, 0, 0)


def test_a_client_that_leaves_many_loses_its_own() -> None:
    recordings = made()
    recordings.away.most = 4
    other, others = begun(recordings, client="other")
    other.add(EVENT)
    assert recordings.leave(other, 1.0)
    mine = [begun(recordings, client="mine") for _ in range(8)]
    for stream, _ in mine:
        stream.add(EVENT)
        assert recordings.leave(stream, 1.0)
    assert [answering.abandoned for _, answering in mine] == [1] * 5 + [0] * 3
    assert not others.abandoned


@pytest.mark.parametrize("away", [True, False])
def test_a_client_that_wants_no_answer_is_not_waited_for(away: bool) -> None:
    recordings = made()
    stream, answering = begun(recordings)
    stream.add(EVENT)
    if away:
        assert recordings.leave(stream, 1.0)
    recordings.cancel(b"s", b"8", b"", b"")
    recordings.cancel(b"s", b"7", b"another's", b"a third one's")
    assert not stream.cancelled
    recordings.cancel(b"s", b"7", b"", b"a third one's")
    assert answering.abandoned == away
    if not away:
        assert not recordings.leave(stream, 1.0)


def test_streams_that_have_ended_are_forgotten_after_a_while_or_beyond_a_number() -> None:
    recordings = made()
    for _ in range(3 * recording.MOST_ENDED):
        stream, _ = begun(recordings)
        stream.add(EVENT, last=True)
        recordings.close(stream, 1.0)
    assert recording.MOST_ENDED * 15 // 16 <= len(recordings) <= recording.MOST_ENDED
    recordings.sweep(AWAY)
    assert len(recordings) > 0
    recordings.sweep(AWAY + 1.1)
    assert (len(recordings), recordings.ledger.held) == (0, 0)


def test_with_its_session_a_stream_ends() -> None:
    recordings = made()
    stream, answering = begun(recordings, kind=event_ids.LISTENING)
    stream.add(EVENT)
    assert recordings.leave(stream, 1.0)
    assert recordings.listening(b"s") is stream
    recordings.end(b"s")
    assert answering.abandoned == 1
    assert len(recordings) == 0
