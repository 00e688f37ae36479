"""`mcpace sidecar`: the container's entrypoint, top to bottom."""

from __future__ import annotations

import asyncio
import functools
import logging
import os
import re
import signal
from pathlib import Path
from typing import TypedDict

import uvloop

from mcpace_sidecar.contract import environment
from mcpace_sidecar.contract.budget import allow_files, memory_limit
from mcpace_sidecar.contract.config import load
from mcpace_sidecar.contract.surface import DATA_PORT, SERVER_PORT, Flag
from mcpace_sidecar.errors import ConfigError, ListenError
from mcpace_sidecar.http.address import Address
from mcpace_sidecar.process.options import Options
from mcpace_sidecar.process.sidecar import Sidecar
from mcpace_sidecar.server import usage
from mcpace_sidecar.sessions import key


def run(
    config: Path, listen: str, admin_listen: str, upstream: str, name: str, keys: Path | None,
    relay_listen: str | None = None, peers: str | None = None,
) -> None:  # fmt: skip
    """Serve until SIGTERM or SIGINT. ConfigError for what a person must mend."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    cgroup = environment.SERVER_CGROUP.read()
    options = Options(
        load=functools.partial(load, config),
        watched=(config,),
        listen=address(listen),
        admin_listen=address(admin_listen),
        upstream=upstream_address(upstream),
        name=name,
        keys=keys,
        session_keys=session_keys(),
        relay_listen=address(relay_listen) if relay_listen else None,
        peers=address(peers) if peers else None,
        in_pod="KUBERNETES_SERVICE_HOST" in os.environ,
        server_usage=functools.partial(usage.of_cgroup, Path(cgroup)) if cgroup else usage.unseen,
        **surroundings(),
    )
    uvloop.run(serve(options))


def session_keys() -> tuple[bytes, ...]:
    """By which session ids are sealed, the present key first; ConfigError."""
    written = ((each, each.read()) for each in (environment.SESSION_KEY, environment.SESSION_KEY_PREVIOUS))
    return tuple(key.read(text, str(each)) for each, text in written if text is not None)


class Surroundings(TypedDict):
    """What a process is given, wherever it runs; fields of `Options`."""

    limits_url: str | None
    cache_url: str | None
    redis_authority: str | None
    admin_token: str | None
    memory: int
    files: int


def surroundings() -> Surroundings:
    """The stores, the secrets and the bounds of this process; ConfigError says what to write."""
    return {
        "limits_url": environment.LIMITS_URL.read(),
        "cache_url": environment.CACHE_URL.read(),
        "redis_authority": environment.REDIS_CA.read(),
        "admin_token": environment.ADMIN_TOKEN.read(),
        "memory": memory_limit(),
        "files": allow_files(),
    }


async def serve(options: Options) -> None:
    """Run one sidecar; SIGTERM and SIGINT end it, SIGUSR1 drains it."""
    sidecar = Sidecar(options)
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, sidecar.end)
    loop.add_signal_handler(signal.SIGINT, sidecar.end)
    loop.add_signal_handler(signal.SIGUSR1, sidecar.drain)
    try:
        await sidecar.start()
    except ListenError as error:
        raise cannot_listen(error, options) from error
    admin, data = sidecar.listening
    logging.getLogger(__name__).info(
        "Serving http://%s%s for http://%s (admin http://%s)",
        data, sidecar.configuration.settings.config.endpoint, options.upstream, admin,
    )  # fmt: skip
    await sidecar.wait()


def cannot_listen(error: ListenError, options: Options) -> ConfigError:
    """The same with the option to change."""
    flag = Flag.ADMIN_LISTEN if error.address == options.admin_listen else Flag.LISTEN
    return ConfigError(f"{error}; choose another by {flag}")


def address(text: str) -> Address:
    """Read `HOST:PORT`, where `*` is every address; ConfigError says what to write."""
    match = re.fullmatch(r"(?:\[([0-9A-Fa-f:.]+(?:%[\w.-]+)?)\]|([^\s:\[\]/]+)):([0-9]{1,5})", text)
    if match is None or int(match[3]) > 65535:
        raise ConfigError(f"{text!r} is no HOST:PORT; write for example 127.0.0.1:{DATA_PORT}")
    return Address(match[1] or match[2], int(match[3]))


def upstream_address(url: str) -> Address:
    """Read `http://HOST:PORT`; ConfigError says what to write."""
    scheme, _, rest = url.rstrip("/").partition("://")
    if scheme != "http" or "/" in rest:
        raise ConfigError(f"{url!r} is no upstream; write for example http://127.0.0.1:{SERVER_PORT}")
    return address(rest if ":" in rest else rest + ":80")
