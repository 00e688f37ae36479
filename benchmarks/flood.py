"""What a flood of handshakes on the relay port costs calls, in turns with it and without.

Each handshake says all that a peer's would, and is broken off when the sidecar has answered, or not: the
most expensive thing that can be done without the server's key. They come as fast as one process can make
them, from as many addresses as there are replicas of a large server.
"""

from __future__ import annotations

import itertools
import socket
import ssl
import statistics
import struct
import sys
from contextlib import suppress
from pathlib import Path

from rig import LOAD_CORE, Rig, Window, arguments, machine, median, publish, started, table
from tools.ports import free_port

from mcpace_sidecar.contract.environment import SESSION_KEY
from mcpace_sidecar.relay.certificate import Certificate

KEY = "5e" * 32
ADDRESSES = 16
GOAL = 0.9
"""Of the calls a second without it, beyond what noisy neighbours explain."""


def main() -> None:
    """Measure and print; fail where the goal is missed."""
    options = arguments(__doc__, rounds=5, seconds=2).parse_args()
    with Rig(options.compiled) as rig:
        relay = free_port()
        sidecar = rig.sidecar(
            "compiled" if options.compiled else "python",
            environment={str(SESSION_KEY): KEY},
            more=("--relay-listen", f"127.0.0.1:{relay}"),
        )
        alone, beside = [], []
        for _ in range(options.rounds):
            alone.append(rig.window(sidecar, "tool=plain", seconds=options.seconds))
            with started(LOAD_CORE, [sys.executable, Path(__file__), "--flood", relay]):
                beside.append(rig.window(sidecar, "tool=plain", seconds=options.seconds))
        rig.check(sidecar)
    found = cost(beside, alone)
    rows = [(what, *median(each)) for what, each in (("alone", alone), ("beside the flood", beside))]
    publish(
        "flood",
        f"{table(('calls', 'calls/s', 'CPU µs'), *rows)}\n\n"
        f"Beside the flood the sidecar answers {found:.2f} of the calls in the same CPU time"
        f" (goal: {GOAL:g}).\n\n"
        f"{machine()}; {options.rounds} rounds of {options.seconds:g} s.",
        write=options.write,
    )
    if found < GOAL * 0.95 and options.rounds > 1:  # one round is judged by nobody
        raise SystemExit(f"missed: a flood of handshakes costs calls {1 - found:.0%}")


def cost(beside: list[Window], alone: list[Window]) -> float:
    """What is left of the calls, by the sidecar's CPU time: the flood takes of the load's core, too."""
    return statistics.median(own.cost / other.cost for own, other in zip(alone, beside, strict=True))


def flood(port: int) -> None:
    """Begin handshakes until this process is ended."""
    certificate = Certificate(bytes.fromhex(KEY))
    said = ssl.MemoryBIO()
    with suppress(ssl.SSLWantReadError):
        certificate.client().wrap_bio(
            ssl.MemoryBIO(), said, server_hostname=certificate.name
        ).do_handshake()
    hello, reset = said.read(), struct.pack("ii", 1, 0)
    opened: list[socket.socket] = []
    for number in itertools.count():
        one = socket.socket()
        one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, reset)
        one.settimeout(0.2)
        with suppress(OSError):
            one.bind((f"127.0.2.{number % ADDRESSES + 1}", 0))
            one.connect(("127.0.0.1", port))
            one.sendall(hello)
        opened.append(one)
        if len(opened) > 256:
            opened.pop(0).close()


if __name__ == "__main__":
    if sys.argv[1:2] == ["--flood"]:
        flood(int(sys.argv[2]))
    main()
