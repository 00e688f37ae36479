"""How processes come and go."""

import sys
from typing import Any

from tests.kit.waiting import until

from mcpace_sidecar.http.ledger import Ledger
from mcpace_sidecar.stdio.pipes import Pipes
from mcpace_sidecar.stdio.process import ENDED, Process
from mcpace_sidecar.stdio.processes import Processes


class Late(Pipes):
    """Comes back no sooner than the process has ended, as on a busy machine."""

    async def start(self, process: Any) -> None:
        await super().start(process)
        await until(lambda: process.state == ENDED, "the process's end to be told")


async def test_a_process_that_ends_before_its_start_has_come_back_has_ended_like_any_other() -> None:
    errors: list[Exception] = []
    gone: list[Process] = []
    launch = Late((sys.executable, "-I", "-S", "-c", "raise SystemExit(3)"), {}, "ends")
    processes = Processes(launch, Ledger(1 << 20), errors.append)
    process = processes.start(None, gone.append)
    await until(lambda: processes.problem, "its end to be told")
    assert (
        processes.problem == "The server's process ended with exit code 3 before it answered `initialize`."
    )
    assert processes.failed == {"ended": 1}
    await processes.close()
    assert (process.state, gone, processes.all, errors) == (ENDED, [process], set(), [])
