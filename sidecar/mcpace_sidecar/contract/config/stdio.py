"""`stdio`: the processes of a server that speaks over its standard input and output."""

from __future__ import annotations

from typing import Final, Literal

from pydantic import Field

from mcpace_sidecar.contract.config.base import Model
from mcpace_sidecar.contract.quantity import Duration
from mcpace_sidecar.contract.rules import Broken, broken, rule

_MOST: Final = {"perSession": 16, "shared": 1}


class Stdio(Model):
    """How many processes of the server there are, and who has which."""

    processes: Literal["perSession", "shared"] = Field(
        default="perSession",
        description="`perSession`: each session has a process of its own, as on a desktop. `shared`: all"
        " clients' calls go to the same ones, which know no client: nothing that a server asks of its"
        " client, sampling or elicitation, is possible.",
    )
    max_processes: int | None = Field(
        default=None,
        ge=1,
        le=1000,
        description="Processes at once, per replica: 16 of `perSession`, where a session beyond them waits"
        " until another ends; 1 of `shared`, since servers that keep a file lose writes with more.",
    )
    warm: int = Field(
        default=1, ge=0, le=100, description="Processes that are started ahead, for sessions to come."
    )
    calls_per_process: int = Field(
        default=1,
        ge=1,
        le=1000,
        description="Calls that a process of `shared` works on at once; more may lose writes.",
    )
    idle_timeout: Duration = Field(
        default="10m",
        description="How long a session without calls and without an open event stream keeps its process,"
        " and one of `shared` goes on without a call beside the first and the `warm` ones.",
    )
    start_timeout: Duration = Field(
        default="20s",
        description="How long a process may take to answer `initialize`, and a session wait for one.",
    )

    @rule(
        "!has(self.callsPerProcess) || (has(self.processes) && self.processes == 'shared')",
        "callsPerProcess is of `processes: shared`: a session's own process gets its calls as they come",
    )
    def _sessions_have_their_own(self) -> Broken | None:
        return broken(
            "calls_per_process" in self.model_fields_set and self.processes != "shared", "callsPerProcess"
        )

    @property
    def most(self) -> int:
        """Processes at once, given or by default."""
        return self.max_processes or _MOST[self.processes]
