"""A pod's end, as its preStop begins it: by the sidecar's own port, whoever process 1 is."""

from __future__ import annotations

import asyncio
import os
import sys

import pytest
from tests.kit.sidecars import Start
from tests.kit.upstream import Scripted
from tools.ports import free_port

from mcpace_operator.children.sidecar import DRAIN

TOKEN = "the-admin-token"


async def drain(port: int, token: str) -> tuple[int, str]:
    """Run the command that the pod runs."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, *DRAIN[1:], str(port),
        env=os.environ | {"MCPACE_ADMIN_TOKEN": token}, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    _, said = await process.communicate()
    return process.returncode or 0, said.decode()


async def test_the_command_of_the_pod_drains_the_sidecar(scripted: Scripted, start: Start) -> None:
    sidecar = await start(scripted.port, admin_token=TOKEN)
    assert await drain(sidecar.admin, TOKEN) == (0, "")
    assert sidecar.plane.draining
    status, _ = await sidecar.admin_get("/readyz")
    assert status == 503


@pytest.mark.parametrize("token", ["", "another"])
async def test_who_has_not_the_token_drains_nothing(scripted: Scripted, start: Start, token: str) -> None:
    sidecar = await start(scripted.port, admin_token=TOKEN)
    code, said = await drain(sidecar.admin, token)
    assert (code, said) == (1, "The sidecar answered HTTP 401\n")
    status, _ = await sidecar.admin_get("/drain", Authorization=f"Bearer {TOKEN}")
    assert status == 405, "reading is not asking"
    assert not sidecar.plane.draining


async def test_a_sidecar_that_is_gone_keeps_no_pod_from_ending() -> None:
    code, said = await drain(free_port(), TOKEN)
    assert code == 1
    assert "The sidecar was not reached" in said
