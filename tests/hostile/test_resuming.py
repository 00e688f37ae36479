"""Clients that open streams and never come back, or ask for what others were told."""

import pytest
from tests.kit.forgetful import CALL, VERSION, begin
from tests.kit.sidecars import Start
from tests.kit.speaking import PROGRESS, RESPONSE, SpeakingServer, ids, rest, sends
from tests.kit.upstream import Scripted, json_answer
from tests.kit.waiting import until


@pytest.fixture
def server(scripted: Scripted) -> SpeakingServer:
    scripted.answer = server = SpeakingServer()
    return server


async def test_streams_that_nobody_comes_back_to_take_bounded_room(
    scripted: Scripted, server: SpeakingServer, start: Start
) -> None:
    sidecar = await start(scripted.port)
    recordings = sidecar.plane.recordings
    recordings.ledger.most, recordings.away.most = 256 * 1024, 16
    speaking = server.calls
    session = await begin(sidecar)
    for number in range(1, 49):
        client = await sends(sidecar, session, CALL, **VERSION)
        await speaking.opened(number)
        speaking.says(b"data: %b\n\n" % (b"x" * 20_000))
        await client.reads(b"xx\n\n")
        client.leave()
        await until(lambda n=number: len(recordings.away) == min(n, 16), "its leaving to be noticed")
        assert recordings.ledger.held <= recordings.ledger.most
        assert len(sidecar.in_flight) <= 17
    await sidecar.forsaken()
    assert (recordings.ledger.held, len(recordings)) == (0, 0)


async def test_what_was_said_to_one_is_given_to_nobody_else(
    scripted: Scripted, server: SpeakingServer, start: Start
) -> None:
    sidecar = await start(scripted.port)
    speaking = server.calls
    session = await begin(sidecar, Authorization="Bearer mine")
    client = await sends(sidecar, session, CALL, Authorization="Bearer mine", **VERSION)
    await speaking.opened(1)
    speaking.says(PROGRESS % 1)
    said = await client.reads(b'"n":1}}\n\n')
    first, second = ids(said)
    client.leave()
    await until(lambda: sidecar.plane.recordings.away, "its leaving to be noticed")
    speaking.says(b'data: {"jsonrpc":"2.0","id":7,"result":{"content":["secret"]}}\n\n', ends=True)
    await sidecar.idle()
    another = await begin(sidecar, Authorization="Bearer other")
    for credential, of in (("Bearer other", session), ("Bearer other", another), ("Bearer mine", another)):
        told = await rest(sidecar, of, second, Authorization=credential)
        assert b"secret" not in told
        assert b'"id":7,"error":{"code":50200' in told
    assert b"secret" in await rest(sidecar, session, second, Authorization="Bearer mine")
    assert b"secret" in await rest(sidecar, session, first, Authorization="Bearer mine")


async def test_a_call_is_cancelled_by_nobody_elses_credential(
    scripted: Scripted, server: SpeakingServer, start: Start
) -> None:
    sidecar = await start(scripted.port)
    speaking = server.calls
    session = await begin(sidecar, Authorization="Bearer mine")
    client = await sends(sidecar, session, CALL, Authorization="Bearer mine", **VERSION)
    await speaking.opened(1)
    speaking.says(PROGRESS % 1)
    last = ids(await client.reads(b'"n":1}}\n\n'))[-1]
    client.leave()
    await until(lambda: sidecar.plane.recordings.away, "its leaving to be noticed")
    server.hooks["notifications/cancelled"] = lambda _: json_answer(b"{}", b"401 Unauthorized")
    cancelled = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 7}}
    headers = VERSION | {"Mcp_Session_Id": session, "Authorization": "Bearer other"}
    assert (await sidecar.post(cancelled, **headers))[0] == 401
    speaking.says(RESPONSE, ends=True)
    await sidecar.idle()
    assert b'"result":' in await rest(sidecar, session, last, Authorization="Bearer mine")


async def test_a_forged_id_gives_nothing_and_reaches_no_server(
    scripted: Scripted, server: SpeakingServer, start: Start
) -> None:
    sidecar = await start(scripted.port)
    speaking, listening = server.calls, server.listening
    session = await begin(sidecar)
    client = await sends(sidecar, session, CALL, **VERSION)
    await speaking.opened(1)
    speaking.says(RESPONSE, ends=True)
    first, last = ids(await client.reads(b"0\r\n\r\n"))
    parts = first.split(".")
    for at, forged in ((1, "x" * 60), (2, "99999"), (5, "999"), (3, "00000000")):
        told = await rest(sidecar, session, ".".join([*parts[:at], forged, *parts[at + 1 :]]))
        if at == 3:
            assert b'"result":' in told, "it is its own"
        else:
            assert b'"error":{"code":50200' in told, told
    smuggled = first + ".WC1FdmlsOiB5"
    assert b'"result":' in await rest(sidecar, session, smuggled), "its own, whatever the server's was"
    assert (await rest(sidecar, session, last)).startswith(b"HTTP/1.1 405 ")
    assert not listening.asked
    for made_up in ("one", "m.x", "g." + "." * 40, first + ".x"):
        client = await sends(sidecar, session, Last_Event_ID=made_up, **VERSION)
        await client.reads(b"\r\n\r\n")
        assert b"last-event-id" not in listening.asked[-1].headers
        client.leave()
        await sidecar.forsaken()
