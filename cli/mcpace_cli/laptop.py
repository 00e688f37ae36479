"""`mcpace run`: a manifest without a cluster. The server as a child process, the sidecar here."""

from __future__ import annotations

import asyncio
import functools
import logging
import secrets
import shutil
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import uvloop
from rich.console import Console

from mcpace_cli import apikeys, sessionkey, sockets
from mcpace_cli import processes as table
from mcpace_cli.checklist import checklist
from mcpace_cli.child import Child, servers_environment
from mcpace_cli.lines import lines
from mcpace_cli.manifest import Manifest, environment, expanded, read, without_file
from mcpace_sidecar.contract.config import SidecarConfig, parse
from mcpace_sidecar.errors import ConfigError, ListenError
from mcpace_sidecar.http.address import Address
from mcpace_sidecar.main import address, cannot_listen, surroundings
from mcpace_sidecar.process.options import Options
from mcpace_sidecar.process.sidecar import Sidecar
from mcpace_sidecar.server import usage
from mcpace_sidecar.sessions.key import KEY_BYTES
from mcpace_sidecar.stdio.pipes import Pipes, ended

_AT_ONCE: Final = 10.0
"""Seconds within which a server that ends has ended at once."""
_HURRIED: Final = 130
"""The exit code of a second Ctrl-C, as of shells."""
_STARTED_WITH: Final = ("transport", "port", "command", "args", "env", "env_from")
"""Fields of a manifest that are read once, at start."""

_ASKED: Final = 3.0
"""Seconds until a server that does not listen is looked at: does it read its standard input?"""
_PATIENCE: Final = 5.0
"""Seconds until it is said what is waited for; then after twice as long, and so on."""
_STDIO: Final = "If it speaks MCP over stdio, write `transport: stdio` in the manifest, or leave that out."
_TRIES: Final = 3
"""Processes that fail in a row before any has answered, after which the command is believed to be wrong."""

err = Console(stderr=True, highlight=False, soft_wrap=True, emoji=False)


@dataclass(frozen=True, slots=True)
class Asked:
    """What the command line asks for; ports that are None are chosen."""

    manifest: Path | None
    command: tuple[str, ...] = ()
    port: int | None = None
    listen: str | None = None
    admin_listen: str | None = None
    keys: Path | None = None
    name: str | None = None


def run(asked: Asked) -> None:
    """Serve until Ctrl-C, or until the server ends. ConfigError for what a person must mend."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s", handlers=[_Said()])
    logging.getLogger("mcpace_sidecar.reloads").setLevel(logging.INFO)
    if asked.manifest is not None and not asked.manifest.exists():
        words = "write mcpace run MANIFEST -- COMMAND, or for a server of stdio mcpace run -- COMMAND"
        raise ConfigError(f"{asked.manifest}: no such file; {words}")
    written = _read(asked)
    for note in written.notes:
        say(note)
    missing = [] if asked.keys is not None else apikeys.missing(written)
    if missing:
        say(
            f"clients.apiKeys: without the Secret {', '.join(missing)} its clients are unknown:"
            " put it into the manifest's file, or give --keys DIR",
            "yellow",
        )
    judged, placed = written.spec, _placed(asked, written)
    with apikeys.folder(written, asked.keys) as folder:

        def load() -> tuple[SidecarConfig, tuple[str, ...]]:
            nonlocal judged, placed
            now = _read(asked)
            if asked.keys is None:
                apikeys.write(now, folder)
            _say_what_waits(written, now)
            judged, placed = now.spec, _placed(asked, now)
            return parse(SidecarConfig, now.spec.sidecar_config())

        ports = written.spec.sidecar
        listen = _place(asked.listen, ports.port, asked.admin_listen)
        admin_listen = _place(asked.admin_listen, ports.admin_port, asked.listen)
        asks = ((listen, asked.listen), (admin_listen, asked.admin_listen))
        options = Options(
            load=load,
            watched=() if asked.manifest is None else (asked.manifest,),
            listen=listen,
            admin_listen=admin_listen,
            movable=tuple(place for place, wish in asks if wish is None),
            upstream=Address("localhost", written.spec.port),
            name=written.name,
            keys=folder,
            launch=_pipes(written, asked.command),
            judge=lambda report: checklist(judged, report),
            lines=lambda: placed,
            session_keys=(
                (
                    secrets.token_bytes(KEY_BYTES),
                )  # sessions need not outlive us: nothing names their server
                if asked.manifest is None
                else sessionkey.of(asked.manifest, written.name)
            ),
            **surroundings(),
        )
        for flag, place in (("--listen", options.listen), ("--admin-listen", options.admin_listen)):
            if place.port == written.spec.port and options.launch is None:
                raise ConfigError(f"{flag} {place} is the server's own port (spec.port); choose another")
        if options.listen == options.admin_listen and options.listen.port:
            raise ConfigError(f"--listen and --admin-listen are both {options.listen}; choose two ports")
        sys.exit(uvloop.run(_serve(options, written, asked.command)))


def _read(asked: Asked) -> Manifest:
    if asked.manifest is None:
        return without_file(asked.command, asked.port)
    return read(asked.manifest, asked.name, asked.command)


def _placed(asked: Asked, manifest: Manifest) -> dict[str, int]:
    """In which lines its fields stand."""
    return {} if asked.manifest is None else lines(asked.manifest, manifest.name)


def _pipes(manifest: Manifest, given: tuple[str, ...]) -> Pipes | None:
    """How processes of a server of stdio are started; ConfigError where none can be."""
    spec = manifest.spec
    if spec.transport != "stdio":
        return None
    values, missing = environment(manifest)
    for problem in missing:
        say(f"spec.{problem}; put it there, or set the variable yourself", "yellow")
    if given and (spec.command, spec.args) != (given, ()):
        say("The command given is started, not spec.command and spec.args")
    command = given or tuple(expanded(word, values) for word in (*spec.command, *spec.args))
    around = servers_environment(values)
    if shutil.which(command[0], path=around.get("PATH")) is None:
        raise ConfigError(f"Cannot start '{command[0]}': there is no such program")
    each = "the same for all" if spec.stdio.processes == "shared" else "one for each session"
    written = given or (*spec.command, *spec.args)  # what they stand for may be a secret
    say(f"Starting processes of the server, {each}, {spec.stdio.most} at most: {' '.join(written)}")
    return Pipes(command, around, manifest.name.partition("/")[2])


def say(text: str, style: str | None = None) -> None:
    """A line for the person at the terminal."""
    err.print(text, style=style, markup=False)


class _Said(logging.Handler):
    """What is logged, as a line for the person at the terminal."""

    def emit(self, record: logging.LogRecord) -> None:
        style = "red" if record.levelno >= logging.ERROR else "yellow"
        say(self.format(record), style if record.levelno >= logging.WARNING else None)


def _place(asked: str | None, usual: int, other: str | None) -> Address:
    """The address that was asked for; else the usual port, unless the `other` asks for that one."""
    if asked is not None:
        return address(asked)
    taken = other is not None and address(other).port == usual
    return Address("127.0.0.1", 0 if taken else usual)


def _say_what_waits(started: Manifest, now: Manifest) -> None:
    """Name the changes that take a new start."""
    for name in _STARTED_WITH:
        before, after = getattr(started.spec, name), getattr(now.spec, name)
        if before != after:
            field = type(now.spec).model_fields[name].alias or name
            change = f": {before} -> {after}" if isinstance(after, int) else ""
            say(f"spec.{field} has changed{change}; start mcpace run again to take it", "yellow")


async def _serve(options: Options, manifest: Manifest, given: tuple[str, ...]) -> int:
    sidecar = Sidecar(options)
    hurry = _heed_signals(sidecar)
    pipes = options.launch
    if isinstance(pipes, Pipes):
        sidecar.server_usage = functools.partial(usage.of_processes, functools.partial(_members, pipes))
        command: tuple[str, ...] = ()
    else:
        command = _command(manifest, given)
    try:
        await sidecar.start()
    except ListenError as error:
        raise cannot_listen(error, options) from error
    serving = asyncio.ensure_future(sidecar.wait())
    child: Child | None = None
    try:
        if command:
            # As it is written: what its words stand for may be a secret.
            say(f"Starting the server: {' '.join(given or (*manifest.spec.command, *manifest.spec.args))}")
            child = await _start(manifest, command)
            sidecar.server_usage = functools.partial(usage.of_processes, child.members)
        code = await _until_end(sidecar, manifest.spec.port, child, serving, hurry)
    finally:
        # The sidecar first: the server still has calls to answer.
        sidecar.end()
        await asyncio.wait({serving, hurry}, return_when="FIRST_COMPLETED")
        if hurry.done():
            sidecar.kill()
        if child is not None:
            ending = asyncio.ensure_future(child.end())
            await asyncio.wait({ending, hurry}, return_when="FIRST_COMPLETED")
            child.kill()
    return _HURRIED if hurry.done() else code


def _members(pipes: Pipes) -> set[int]:
    """The processes of a server of stdio, with all that they have started."""
    return {pid for group in pipes.groups for pid in table.session(group) or {group}}


def _heed_signals(sidecar: Sidecar) -> asyncio.Future[None]:
    """Let every signal that ends a program end the sidecar in order; the second one is told to hurry."""
    loop = asyncio.get_running_loop()
    hurry: asyncio.Future[None] = loop.create_future()
    heard: list[signal.Signals] = []

    def hear(number: signal.Signals) -> None:
        heard.append(number)
        sidecar.end()
        if len(heard) == 1:
            say("Ending; once more ends it at once")
        elif not hurry.done():
            hurry.set_result(None)

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
        if number == signal.SIGHUP and signal.getsignal(number) == signal.SIG_IGN:
            continue  # nohup
        loop.add_signal_handler(number, hear, number)
    return hurry


def _command(manifest: Manifest, given: tuple[str, ...]) -> tuple[str, ...]:
    """What starts the server: the command given, else the manifest's, where no server listens already."""
    spec, port = manifest.spec, manifest.spec.port
    taken = sockets.listens(port)
    if given:
        if spec.command or spec.args:
            say("The command given is started, not spec.command and spec.args")
        if taken:
            who = sockets.stranger(port)
            by = f" by {who}" if who else ""
            raise ConfigError(
                f"Port {port} is taken{by}, so the command's server could not listen there: end that one,"
                " write another `port` in the manifest, or leave the command out to use what listens"
            )
        return given
    if taken or not spec.command:
        if spec.command:
            say(f"spec.command is not started: a server listens on port {port} already")
        if taken:
            say(f"Using the server that listens on port {port} of this machine")
        else:
            say(f"Nothing listens on port {port} yet: start the server there, or give its command after --")
        return ()
    values, _ = environment(manifest)
    return tuple(expanded(word, values) for word in (*spec.command, *spec.args))


async def _start(manifest: Manifest, command: tuple[str, ...]) -> Child:
    values, missing = environment(manifest)
    for problem in missing:
        say(f"spec.{problem}; put it there, or set the variable yourself", "yellow")
    place = {"HOST": "127.0.0.1", "PORT": str(manifest.spec.port)}
    try:
        return await Child.start(command, servers_environment(place | values))
    except ConfigError as error:
        if command[: len(manifest.spec.command)] != manifest.spec.command or not manifest.spec.command:
            raise
        raise ConfigError(
            f"{error} (spec.command); give the command that starts it here after --, or start the server"
            f" on port {manifest.spec.port} yourself"
        ) from error


async def _until_end(
    sidecar: Sidecar,
    port: int,
    child: Child | None,
    serving: asyncio.Future[None],
    hurry: asyncio.Future[None],
) -> int:
    """Wait for a signal, or for the server's end; return the exit code."""
    began = time.monotonic()
    announcing = asyncio.ensure_future(_announce(sidecar, port, child))
    ended = asyncio.ensure_future(child.wait()) if child is not None else None
    waits: set[asyncio.Future[Any]] = {announcing, serving, hurry}
    waits |= {ended} if ended is not None else set()
    done, _ = await asyncio.wait(waits, return_when="FIRST_COMPLETED")
    if done == {announcing} and announcing.result():
        done, _ = await asyncio.wait(waits - {announcing}, return_when="FIRST_COMPLETED")
    for waiting in (announcing, ended):
        if waiting is not None:
            waiting.cancel()
    if serving in done or hurry in done:
        return 0
    if ended is not None and ended in done:
        _say_end(ended.result(), port, sidecar, time.monotonic() - began)
    return 1


def _say_end(code: int, port: int, sidecar: Sidecar, lived: float) -> None:
    say(f"The server {ended(code)}.", "red")
    if code == 0 and lived < _AT_ONCE and not sidecar.handshake.was_ready.is_set():
        say(f"It never listened on port {port}. {_STDIO} If it went to the background, keep it in front.")


async def _announce(sidecar: Sidecar, port: int, child: Child | None) -> bool:
    """Wait until the server is ready, and say so; False where it is somebody else's."""
    began, due = time.monotonic(), _PATIENCE
    processes = sidecar.processes
    while not sidecar.handshake.ready:
        await asyncio.sleep(0.1)
        if processes is not None and processes.in_a_row >= _TRIES and not sidecar.handshake.ready:
            say(processes.problem or "The server's processes end.", "red")
            return False
        waited = time.monotonic() - began
        if child is not None and waited >= _ASKED and not child.asked and not sockets.listens(port):
            child.reads()
        if waited >= due:
            due *= 2
            say(f"Waiting for the server ({waited:.0f} s): {_why(sidecar, port, child)}")
    stranger = sockets.stranger(port, child.members()) if child is not None else None
    if stranger is not None:
        say(f"{stranger} listens on port {port}, and the command did not start it.", "red")
        return False
    admin, data = sidecar.listening
    server = sidecar.catalog.server
    if server is not None and not sidecar.catalog.locked:
        count = len(sidecar.catalog.tools)
        name = f"{server.name} {server.version}".strip() or "a server without a name"
        tools = "1 tool" if count == 1 else f"{count} tools"
        say(f"Ready: {name}, {tools}, MCP {server.protocol_version}")
    else:
        say("Ready: a server that speaks to its own clients alone, so its tools are not known yet")
    sidecar.findings.tell()
    for place, what in ((data, "call"), (admin, "read the metrics")):
        if not place.is_loopback:
            say(f"{place} is no address of this machine alone: others may {what} too", "yellow")
    admin = _reached(admin)
    say(f"A page to look at: http://{admin}/ (for programs: http://{admin}/metrics, http://{admin}/stats)")
    # The one line on standard output: for scripts, and for people to paste into a client.
    print(f"http://{_reached(data)}{sidecar.configuration.settings.config.endpoint}", flush=True)
    return True


def _reached(place: Address) -> Address:
    """Where this machine reaches what listens there: an address of none is every one."""
    here = {"*": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - because nothing is bound
    return Address(here.get(place.host, place.host), place.port)


def _why(sidecar: Sidecar, port: int, child: Child | None) -> str:
    """Why the server is not ready, and what to do."""
    problem = sidecar.handshake.problem
    if sidecar.processes is not None:
        return sidecar.processes.problem or "its first process has not answered yet."
    if sockets.listens(port):
        return problem
    if child is None:
        return f"{problem} Start it on port {port}, write its `port`, or give its command after --."
    others = sorted(sockets.ports_of(child.members()) - {port})
    if others:
        listed = ", ".join(map(str, others))
        return f"{problem} The command listens on {listed}: write `port: {others[0]}` in the manifest."
    if child.reads():
        return f"Nothing listens on port {port}, and the command reads its standard input. {_STDIO}"
    return f"{problem} Let it listen on $PORT, which is {port} for it, or write its `port` in the manifest."
