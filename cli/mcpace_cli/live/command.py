"""`mcpace run` as people type it."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import click

from mcpace_cli.asked import Asked, redis_url
from mcpace_cli.dashes import Run
from mcpace_cli.mending import MENDED
from mcpace_sidecar.contract.environment import CACHE_URL, LIMITS_URL
from mcpace_sidecar.contract.surface import ADMIN_PORT, DATA_PORT


@click.command(
    cls=Run,
    epilog="Exit codes: 0 all were ended by Ctrl-C, `q` or a signal; 1 a server ended by itself, or is"
    f" somebody else's; {MENDED.removesuffix('.')}; 130 a second Ctrl-C ended all at once. Of several"
    " servers the highest counts.",
)
@click.argument(
    "manifests", metavar="[MANIFEST]... [-- COMMAND...]", nargs=-1,
    type=click.Path(path_type=Path, dir_okay=False),
)  # fmt: skip
@click.option(
    "--port", type=click.IntRange(1, 65535), metavar="PORT",
    help="Without a manifest: the port at which the command's server speaks HTTP; else it speaks stdio.",
)  # fmt: skip
@click.option(
    "--listen", metavar="HOST:PORT",
    help=f"Where calls arrive; 127.0.0.1:{DATA_PORT}, or another port where that is taken.",
)  # fmt: skip
@click.option(
    "--admin-listen", metavar="HOST:PORT",
    help=f"Health, metrics, statistics; 127.0.0.1:{ADMIN_PORT}, or another port where that is taken.",
)  # fmt: skip
@click.option(
    "--keys", type=click.Path(path_type=Path, file_okay=False, exists=True),
    help="Folder of API keys: a folder a Secret, a file a client; else Secrets of the manifest's file.",
)  # fmt: skip
@click.option(
    "--name", metavar="NAME", help="This McpServer alone, where the manifest's file holds several."
)
@click.option(
    "--redis", metavar="URL", callback=redis_url,
    help="Where limits are counted and results are kept, in place of memory and of MCPACE_LIMITS_URL and"
    " MCPACE_CACHE_URL; these take a URL with a password, which others would see here.",
)  # fmt: skip
@click.option("--open", "opens", is_flag=True, help="Open each server's page in a browser.")
@click.option("--plain", is_flag=True, help="Lines, and no live view, on a terminal too.")
def run(
    manifests: tuple[Path, ...], redis: str | None, *, opens: bool, plain: bool, **options: Any
) -> None:
    """Run servers on this machine: no cluster, and no Redis unless one is named.

    COMMAND, after `--`, starts the server, with the manifest's `env`, and with PORT and HOST.
    Without it, the server that listens at the manifest's port is used, or else the manifest's
    `command` is started. Where `transport` is stdio, each session has a process of it.

    Of several manifests, and of several McpServers in one, each is run, on ports of its own.
    Without a MANIFEST, COMMAND is a server of stdio: mcpace run -- npx -y SERVER

    On a terminal a live view shows what each tool does, and what the server says below: q quits,
    p purges the cache, l shows the log or not, arrows and tab lead from server to server. Without
    a terminal, with --plain and where NO_COLOR is set there are lines.
    """
    from mcpace_cli.live.servers import servers  # noqa: PLC0415 - because only this command uses it

    if redis is not None:
        os.environ |= {LIMITS_URL.name: redis, CACHE_URL.name: redis}
    all_of_them = servers(Asked(**options), manifests)
    if len(all_of_them) == 1 and not opens and not os.isatty(2):
        from mcpace_cli.laptop import run as run_here  # noqa: PLC0415 - the same

        run_here(all_of_them[0].asked)
    else:
        from mcpace_cli.live import lead  # noqa: PLC0415 - the same

        sys.exit(lead.run(all_of_them, plain=plain, opens=opens))
