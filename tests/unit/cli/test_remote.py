"""What the heads of a server's answers tell."""

from __future__ import annotations

import httpx2
import pytest

from mcpace_cli.remote import Heard, Limit


@pytest.mark.parametrize(
    ("told", "limits"),
    [
        ('"minute";r=59;t=1, "day";r=99;t=864', (Limit("minute", 59, 1), Limit("day", 99, 864))),
        (f'"minute";r={"9" * 5000};t=1', ()),
        (f'"minute";r=1;t={"9" * 5000}', ()),
        ('"minute";r=-1;t=1', ()),
    ],
    ids=["as a sidecar writes it", "many digits", "many digits of time", "less than none"],
)
async def test_what_is_left_is_read_of_numbers_that_a_header_may_hold(told: str, limits: tuple[Limit, ...]):
    heard = Heard()
    request = httpx2.Request("POST", "http://127.0.0.1/mcp")
    await heard(httpx2.Response(200, headers={"RateLimit": told}, request=request))
    assert heard.limits == limits
