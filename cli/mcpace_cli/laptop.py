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
from typing import Any, Final

import uvloop

from mcpace_cli import apikeys, sessionkey, sockets
from mcpace_cli import processes as table
from mcpace_cli.asked import Asked
from mcpace_cli.checklist import checklist
from mcpace_cli.child import Child, servers_environment
from mcpace_cli.lines import lines
from mcpace_cli.live import tie
from mcpace_cli.manifest import Manifest, environment, expanded, read, without_file
from mcpace_cli.ready import announce, places, say_end
from mcpace_cli.said import Said, say
from mcpace_sidecar.contract.config import SidecarConfig, parse
from mcpace_sidecar.errors import ConfigError, ListenError
from mcpace_sidecar.http.address import Address
from mcpace_sidecar.main import address, cannot_listen, surroundings
from mcpace_sidecar.process.options import Options
from mcpace_sidecar.process.sidecar import Sidecar
from mcpace_sidecar.server import usage
from mcpace_sidecar.sessions.key import KEY_BYTES
from mcpace_sidecar.stdio.pipes import Pipes

_HURRIED: Final = 130
"""The exit code of a second Ctrl-C, as of shells."""
_STARTED_WITH: Final = ("transport", "port", "command", "args", "env", "env_from")
"""Fields of a manifest that are read once, at start."""


def run(asked: Asked) -> None:
    """Serve until Ctrl-C, or until the server ends. ConfigError for what a person must mend."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s", handlers=[Said()])
    logging.getLogger("mcpace_sidecar.reloads").setLevel(logging.INFO)
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

        data_port, admin_port = asked.ports or (written.spec.sidecar.port, written.spec.sidecar.admin_port)
        listen = _place(asked.listen, data_port, asked.admin_listen)
        admin_listen = _place(asked.admin_listen, admin_port, asked.listen)
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
        sys.exit(uvloop.run(_serve(options, written, asked)))


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


async def _serve(options: Options, manifest: Manifest, asked: Asked) -> int:
    sidecar, given = Sidecar(options), asked.command
    hurry = _heed_signals(sidecar, led=asked.led)
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
    if asked.led:
        tie.tell(tie.Told(*places(sidecar), ready=False))
    serving = asyncio.ensure_future(sidecar.wait())
    child: Child | None = None
    try:
        if command:
            # As it is written: what its words stand for may be a secret.
            say(f"Starting the server: {' '.join(given or (*manifest.spec.command, *manifest.spec.args))}")
            child = await _start(manifest, command)
            sidecar.server_usage = functools.partial(usage.of_processes, child.members)
        code = await _until_end(sidecar, manifest.spec.port, child, serving, hurry, led=asked.led)
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


def _heed_signals(sidecar: Sidecar, *, led: bool) -> asyncio.Future[None]:
    """Let every signal that ends a program end the sidecar in order; the second one is told to hurry."""
    loop = asyncio.get_running_loop()
    hurry: asyncio.Future[None] = loop.create_future()
    heard: list[signal.Signals] = []

    def hear(number: signal.Signals) -> None:
        heard.append(number)
        sidecar.end()
        if len(heard) == 1 and not led:
            say("Ending; once more ends it at once")
        if len(heard) > 1 and not hurry.done():
            hurry.set_result(None)

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
        if number == signal.SIGHUP and signal.getsignal(number) == signal.SIG_IGN:
            continue  # nohup
        loop.add_signal_handler(number, hear, number)
    if led:
        tie.when_cut(sidecar.end)
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
    *,
    led: bool,
) -> int:
    """Wait for a signal, or for the server's end; return the exit code."""
    began = time.monotonic()
    announcing = asyncio.ensure_future(announce(sidecar, port, child, led=led))
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
        say_end(ended.result(), port, sidecar, time.monotonic() - began)
    return 1
