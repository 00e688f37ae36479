"""What a flood of handshakes on the relay port takes of a sidecar's core: so much do busy calls lose.

Each handshake says all that a peer's would, and is broken off when the sidecar has answered, or not: the
most expensive thing that can be done without the server's key. They come as fast as one process on a core
of its own can make them, from as many addresses as there are replicas of a large server. Calls beside it
would be counted wrongly, for the flood takes from whoever makes them: a sidecar that waits for calls
answers fewer, and each costs more.
"""

from __future__ import annotations

import itertools
import socket
import ssl
import statistics
import struct
import sys
import time
from contextlib import suppress
from pathlib import Path

from rig import LOAD_CORE, Contender, Rig, arguments, cpu, machine, publish, started
from tools.ports import free_port

from mcpace_sidecar.contract.environment import SESSION_KEY
from mcpace_sidecar.relay.certificate import Certificate

KEY = "5e" * 32
ADDRESSES = 16
GOAL = 0.1
"""Of the core."""


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
            alone.append(busy(sidecar, options.seconds))
            with started(LOAD_CORE, [sys.executable, Path(__file__), "--flood", relay]) as flooding:
                wait_until_busy(flooding.pid)
                beside.append(busy(sidecar, options.seconds))
    taken = statistics.median(more - less for more, less in zip(beside, alone, strict=True))
    publish(
        "flood",
        f"The flood takes {taken:.1%} of the sidecar's core (goal: at most {GOAL:.0%}).\n\n"
        f"{machine()}; {options.rounds} rounds of {options.seconds:g} s.",
        write=options.write,
    )
    if taken > GOAL:
        raise SystemExit(f"missed: a flood of handshakes takes {taken:.1%}")


def busy(sidecar: Contender, seconds: float) -> float:
    """The share of its core that a sidecar uses for so long."""
    used, began = sidecar.cpu, time.perf_counter()
    time.sleep(seconds)
    return (sidecar.cpu - used) / (time.perf_counter() - began)


def wait_until_busy(process: int) -> None:
    """Wait until a process has started."""
    began = cpu(process)
    while cpu(process) < began + 0.3:
        time.sleep(0.02)


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
