"""The page of the admin port as bytes: what it may run, to whom it answers, and what it may change."""

import re
from base64 import b64encode
from hashlib import sha256

import msgspec
from tests.kit.calls import ANSWER
from tests.kit.sidecars import Running, Start
from tests.kit.upstream import Scripted, json_answer

from mcpace_sidecar.contract.report import Report


async def asked(
    sidecar: Running, line: str, body: bytes = b"", **headers: str
) -> tuple[int, dict[str, str], str]:
    lines = {"Host": "localhost"} | {name.replace("_", "-"): value for name, value in headers.items()}
    head = f"{line} HTTP/1.1\r\n" + "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    length = f"Content-Length: {len(body)}\r\n\r\n" if body else "\r\n"
    raw = await sidecar.raw(f"{head}{length}".encode() + body, port=sidecar.admin)
    top, _, text = raw.partition(b"\r\n\r\n")
    status, *fields = top.decode().split("\r\n")
    said = {name.lower(): value.strip() for name, _, value in (field.partition(":") for field in fields)}
    return int(status.split()[1]), said, text.decode()


async def test_the_page_needs_no_token_and_may_run_nothing_but_its_own_script(
    scripted: Scripted, start: Start
) -> None:
    sidecar = await start(scripted.port, admin_token="t0ken")
    status, head, body = await asked(sidecar, "GET /")
    assert (status, head["content-type"]) == (200, "text/html; charset=utf-8")
    policy = dict(part.strip().split(" ", 1) for part in head["content-security-policy"].split(";"))
    for kind in ("script", "style"):
        (inside,) = re.findall(rf"<{kind}>(.*?)</{kind}>", body, re.DOTALL)
        assert (
            policy.pop(f"{kind}-src") == f"'sha256-{b64encode(sha256(inside.encode()).digest()).decode()}'"
        )
    assert policy == {
        "default-src": "'none'", "connect-src": "'self'", "img-src": "data:", "base-uri": "'none'", "form-action": "'none'",
        "frame-ancestors": "'none'", "require-trusted-types-for": "'script'", "trusted-types": "'none'",
    }  # fmt: skip
    assert head["x-content-type-options"] == "nosniff"
    assert head["referrer-policy"] == "no-referrer"
    assert "set-cookie" not in head
    markup = re.sub(r"<(script|style)>.*?</\1>", "", body, flags=re.DOTALL)
    assert not re.search(r"\son\w+=|\sstyle=|<script", markup)
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)|url\(|@import", body)
    assert not re.search(r"innerHTML|outerHTML|insertAdjacent|document\.write|eval\(|Storage|cookie", body)
    assert "t0ken" not in body


async def test_a_head_says_what_a_get_would_and_the_connection_goes_on(
    scripted: Scripted, start: Start
) -> None:
    sidecar = await start(scripted.port)
    _, of_get, body = await asked(sidecar, "GET /")
    status, of_head, nothing = await asked(sidecar, "HEAD /")
    assert (status, nothing) == (200, "")
    assert of_head == of_get
    assert int(of_head["content-length"]) == len(body.encode())
    head = b"HEAD /stats HTTP/1.1\r\nHost: localhost\r\n\r\n"
    last = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    both = await sidecar.raw(head + last, port=sidecar.admin, end=False)
    assert both.count(b"HTTP/1.1 200 OK") == 2
    assert both.partition(b"\r\n\r\n")[2].startswith(b"HTTP/1.1 200 OK"), (
        "no body may follow the first head"
    )


async def test_another_method_is_told_which_there_are(scripted: Scripted, start: Start) -> None:
    sidecar = await start(scripted.port)
    ways = (
        ("POST /", "GET, HEAD"),
        ("DELETE /stats", "GET, HEAD"),
        ("GET /purge", "POST"),
        ("HEAD /drained", "GET"),
    )
    for line, allowed in ways:
        status, head, _ = await asked(sidecar, line)
        assert (status, head["allow"]) == (405, allowed), line


async def test_what_the_page_reads_is_for_the_tokens_holder(scripted: Scripted, start: Start) -> None:
    sidecar = await start(scripted.port, admin_token="t0ken")
    for line in ("GET /stats?recent", "GET /config", "HEAD /stats", "POST /purge"):
        for given in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "t0ken"}):
            status, head, _ = await asked(sidecar, line, **given)
            assert (status, head["www-authenticate"]) == (401, "Bearer"), line
    status, head, _ = await asked(sidecar, "GET /stats?recent", Authorization="Bearer t0ken")
    assert (status, head["cache-control"], head["x-content-type-options"]) == (200, "no-store", "nosniff")


async def test_a_page_of_elsewhere_can_neither_read_nor_change_anything(
    scripted: Scripted, start: Start
) -> None:
    sidecar = await start(scripted.port)
    everything = b'{"all":true}'
    assert (await asked(sidecar, "POST /purge", everything))[0] == 200, "no browser sends no Origin"
    # Another page of this machine may send this unasked, as a form or a fetch without headers of its own.
    local = {"Origin": "http://localhost:3000", "Content-Type": "text/plain"}
    status, _, said = await asked(sidecar, "POST /purge", everything, **local)
    assert (status, "Mcpace-Page" in said) == (403, True)
    assert (await asked(sidecar, "POST /drain", b"", **local))[0] == 403
    assert not sidecar.plane.draining
    assert (await asked(sidecar, "POST /purge", everything, **local, Mcpace_Page="1"))[0] == 200
    # With our header it has to ask first, and nobody says yes.
    wish = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "mcpace-page"}
    status, head, _ = await asked(sidecar, "OPTIONS /purge", **local, **wish)
    assert status == 405
    assert not [name for name in head if name.startswith("access-control")]
    for away in (
        {"Origin": "https://elsewhere.example"},
        {"Host": "elsewhere.example"},
        {"Origin": "null"},
    ):
        for line in ("GET /", "GET /stats", "POST /purge"):
            assert (await asked(sidecar, line, **away, Mcpace_Page="1"))[0] == 403, (line, away)


async def test_statistics_tell_on_request_how_the_five_minutes_went(
    scripted: Scripted, start: Start
) -> None:
    sidecar = await start(
        scripted.port, {"cache": {"tools": [{"name": "t", "ttl": "1m", "scope": "shared"}]}}
    )
    scripted.answer = lambda _: json_answer(ANSWER)
    for _ in range(3):
        await sidecar.call("t")
    assert msgspec.json.decode((await asked(sidecar, "GET /stats"))[2])["recent"] is None
    report = msgspec.json.decode((await asked(sidecar, "GET /stats?recent"))[2], type=Report)
    assert report.recent is not None
    (counted,) = report.calls.values()
    assert report.recent.together == counted, "one tool is all there is"
    assert sum(part.count for part in report.recent.slices) == counted.count == 3
    assert {name: tuple(part.count for part in parts) for name, parts in report.recent.tools.items()} == {
        name: tuple(part.count for part in report.recent.slices) for name in report.calls
    }
    assert (report.cache.results, report.cache.bytes > 0) == (1, True)
    assert report.pool is not None
    assert report.pool.opened >= 1
