"""`mcpace run`: a manifest without a cluster. The server as a child process, the sidecar here."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import os
import signal
import sys
from pathlib import Path

import uvloop
from rich.console import Console
from rich.logging import RichHandler

from mcpace_cli.manifest import read
from mcpace_sidecar import usage
from mcpace_sidecar.config import SidecarConfig, parse
from mcpace_sidecar.entrypoint import address
from mcpace_sidecar.environment import secret
from mcpace_sidecar.errors import ConfigError
from mcpace_sidecar.sidecar import Options, Sidecar
from mcpace_sidecar.upstream import Address

_END_TIMEOUT = 10.0

err = Console(stderr=True, highlight=False, soft_wrap=True)


def run(
    manifest: Path, command: tuple[str, ...], listen: str, admin_listen: str, keys: Path | None
) -> None:
    """Serve until Ctrl-C, or until the server ends. ConfigError for what a person must mend."""
    logging.basicConfig(
        level=logging.WARNING,
        format="%(message)s",
        handlers=[RichHandler(console=err, show_path=False)],
    )
    written = read(manifest)
    name, spec = written.name, written.spec
    if spec.clients.api_keys and keys is None:
        err.print("[yellow]clients.apiKeys: no --keys DIR given, so every caller is anonymous[/]")

    def load() -> tuple[SidecarConfig, tuple[str, ...]]:
        return parse(SidecarConfig, read(manifest).spec.sidecar_config())

    options = Options(
        load=load,
        watched=(manifest,),
        listen=address(listen),
        admin_listen=address(admin_listen),
        upstream=Address("127.0.0.1", spec.port),
        name=name,
        keys=keys,
        limits_url=secret("MCPACE_LIMITS_URL"),
        cache_url=secret("MCPACE_CACHE_URL"),
        redis_authority=secret("MCPACE_REDIS_CA"),
        admin_token=secret("MCPACE_ADMIN_TOKEN"),
    )
    sys.exit(uvloop.run(_serve(options, command)))


async def _serve(options: Options, command: tuple[str, ...]) -> int:
    sidecar = Sidecar(options)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, sidecar.end)
    server = await _start(command, options.upstream)
    if server is not None:
        sidecar.server_usage = functools.partial(usage.of_process, server.pid)
    try:
        try:
            await sidecar.start()
        except OSError as error:
            words = error.strerror or str(error)
            raise ConfigError(f"Cannot listen on {options.listen}: {words}; use --listen") from error
        serving = loop.create_task(sidecar.wait())
        announcing = loop.create_task(_announce(sidecar))
        ended = loop.create_task(server.wait()) if server is not None else None
        await asyncio.wait({serving, ended} if ended else {serving}, return_when="FIRST_COMPLETED")
        announcing.cancel()
        if ended is not None and ended.done() and not serving.done():
            err.print(f"[red]The server ended with exit code {ended.result()}.[/]")
            sidecar.end()
            await serving
            return 1
        await serving
        return 0
    finally:
        await _end(server)


async def _start(command: tuple[str, ...], upstream: Address) -> asyncio.subprocess.Process | None:
    if not command:
        err.print(f"Using the server that listens on {upstream}")
        return None
    err.print(f"Starting the server: {' '.join(command)}")
    environment = os.environ | {"HOST": upstream.host, "PORT": str(upstream.port)}
    try:
        # A session of its own: Ctrl-C reaches us, and we end the server after its last answer.
        # Its output goes to standard error: standard output holds the URL and nothing else.
        return await asyncio.create_subprocess_exec(
            *command, env=environment, stdout=sys.stderr.fileno(), start_new_session=True
        )
    except OSError as error:
        raise ConfigError(f"Cannot start {command[0]!r}: {error.strerror}") from error


async def _announce(sidecar: Sidecar) -> None:
    waited = 0.0
    while not sidecar.handshake.ready:
        await asyncio.sleep(0.1)
        waited += 0.1
        if round(waited, 1) % 5 == 0:
            err.print(f"Waiting for the server ({waited:.0f} s): {sidecar.handshake.problem}")
    admin, data = sidecar.listening
    server = sidecar.catalog.server
    if server is not None:
        count = len(sidecar.catalog.tools)
        err.print(f"Ready: {server.name} {server.version}, {count} tools, MCP {server.protocol_version}")
    err.print(f"Metrics and statistics: http://{admin}/metrics, http://{admin}/stats")
    # The one line on standard output: for scripts, and for people to paste into a client.
    print(f"http://{data}{sidecar.plane.settings.config.endpoint}", flush=True)


async def _end(server: asyncio.subprocess.Process | None) -> None:
    if server is None or server.returncode is not None:
        return
    with contextlib.suppress(ProcessLookupError):
        server.terminate()
    try:
        await asyncio.wait_for(server.wait(), _END_TIMEOUT)
    except TimeoutError:
        with contextlib.suppress(ProcessLookupError):
            server.kill()
