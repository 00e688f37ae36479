"""`mcpace`: the commands. Each imports what it needs when it runs."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, Final

import click

from mcpace_cli import mending
from mcpace_cli.commands import COMMANDS, duration
from mcpace_cli.mending import MENDED
from mcpace_sidecar import __version__
from mcpace_sidecar.contract.surface import ADMIN_PORT, DATA_PORT, SERVER_PORT, Flag
from mcpace_sidecar.errors import ConfigError

_WINDOWS: Final = (
    "This runs on Linux and macOS; Windows has no uvloop. Use WSL 2 (`wsl --install`, and there"
    " `pip install`), or a container, as examples/compose does."
)


class _Mcpace(click.Group):
    """All commands. Ctrl-C ends each as a shell expects it, and says no more than that."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run what was asked for."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            ctx.exit(130)


@click.group(cls=_Mcpace, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="mcpace")
def mcpace() -> None:
    """MCP at pace: limits, caching and metrics for MCP servers, from one manifest.

    Any server: of streamable HTTP, of the older pair with SSE, or of stdio.
    """


@mcpace.command(epilog=f"Exit codes: 0 it was ended by a signal; {MENDED}")
@click.option(
    Flag.CONFIG, type=click.Path(path_type=Path, dir_okay=False), required=True,
    help="The manifest's subtree for the sidecar, YAML or JSON; reloaded when it changes.",
)  # fmt: skip
@click.option(
    Flag.LISTEN, metavar="HOST:PORT", default=f"127.0.0.1:{DATA_PORT}", show_default=True,
    help="Where calls arrive; *:PORT is every address.",
)  # fmt: skip
@click.option(
    Flag.ADMIN_LISTEN, metavar="HOST:PORT", default=f"127.0.0.1:{ADMIN_PORT}", show_default=True,
    help="Health, metrics, statistics.",
)  # fmt: skip
@click.option(
    Flag.UPSTREAM,
    metavar="URL",
    default=f"http://127.0.0.1:{SERVER_PORT}",
    show_default=True,
    help="The MCP server.",
)
@click.option(
    Flag.RELAY_LISTEN, metavar="HOST:PORT", default=None,
    help="Where the sidecars of the server's other replicas come in; they know each other by"
    " MCPACE_SESSION_KEY.",
)  # fmt: skip
@click.option(
    Flag.PEERS,
    metavar="HOST[,HOST]:PORT",
    default=None,
    help="Where they are found while Redis does not say.",
)
@click.option(
    Flag.NAME, metavar="NAMESPACE/NAME", default="default/server", show_default=True,
    help="What this server's keys in Redis begin with.",
)  # fmt: skip
@click.option(
    Flag.KEYS, type=click.Path(path_type=Path, file_okay=False),
    help="Folder of API keys: a folder a Secret, a file a client.",
)  # fmt: skip
def sidecar(**options: Any) -> None:
    """Run the data plane alone, in front of one MCP server.

    Secrets come from the environment, or from files: MCPACE_LIMITS_URL and MCPACE_CACHE_URL
    (Redis; memory without them), MCPACE_ADMIN_TOKEN (guards /stats), each also as NAME_FILE.
    """
    from mcpace_sidecar.main import run as serve  # noqa: PLC0415 - because only this command uses it

    serve(**options)


@mcpace.command(epilog=f"Exit codes: 0 they are written; {MENDED}")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), required=True, help="A folder.")
@click.option(
    "--pool-mode",
    type=click.Choice(["transaction", "session", "statement"]),
    default="transaction",
    show_default=True,
    help="When a connection to the database is free again for others.",
)
@click.option(
    "--max-connections", type=click.IntRange(1, 10_000), default=20, show_default=True,
    help="Connections to the database.",
)  # fmt: skip
@click.option(
    "--idle-timeout", metavar="DURATION", callback=duration, default="30s", show_default=True,
    help="How long one is kept that nobody uses.",
)  # fmt: skip
@click.option(
    "--connect-timeout", metavar="DURATION", callback=duration, default="5s", show_default=True,
    help="How long the database may take to accept one.",
)  # fmt: skip
@click.option(
    "--wait-timeout", metavar="DURATION", callback=duration, default="30s", show_default=True,
    help="How long a client waits for one that is free.",
)  # fmt: skip
def pgbouncer(out: Path, max_connections: int, **options: str) -> None:
    """Write PgBouncer's files for the database of MCPACE_DATABASE_URI (or of the file that
    MCPACE_DATABASE_URI_FILE names).
    """  # noqa: D205 - because click prints this as it stands
    from mcpace_sidecar.contract.environment import DATABASE_URI  # noqa: PLC0415 - because only this command uses it
    from mcpace_sidecar.database.pgbouncer import PoolSettings, write  # noqa: PLC0415 - because only this command uses it

    pool = PoolSettings(
        mode=options["pool_mode"],
        max_connections=max_connections,
        idle_timeout=options["idle_timeout"],
        connect_timeout=options["connect_timeout"],
        wait_timeout=options["wait_timeout"],
    )
    write(DATABASE_URI.read(), pool, out)


@mcpace.command(epilog=f"Exit codes: 0 it is written; {MENDED}")
@click.option(
    "--store", type=click.Choice(["cache", "limits"]), required=True, help="Which of the two it is."
)
@click.option(
    "--key", type=click.Path(path_type=Path, file_okay=False), required=True,
    help="Folder of the master key's Secret.",
)  # fmt: skip
@click.option(
    "--users", type=click.Path(path_type=Path, dir_okay=False), required=True,
    help="Redis's aclfile; the users in it stay.",
)  # fmt: skip
def login(store: str, key: Path, users: Path) -> None:
    """Write who administers an embedded Redis into its file of users, hashed."""
    from mcpace_operator.masterkey import write_login  # noqa: PLC0415 - because only this command uses it

    write_login(store, key, users)


@mcpace.command(epilog=f"Exit codes: 0 it was ended by a signal; {MENDED}")
def operator() -> None:
    """Run the control plane: watch McpServers and keep their children as they should be."""
    try:
        from mcpace_operator.__main__ import run as operate  # noqa: PLC0415 - because only this command uses it
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"The operator needs {error.name}, which comes with pip install '.[operator]' in a checkout"
        ) from error

    operate()


for _command in COMMANDS:
    mcpace.add_command(_command)


def main() -> None:
    """Run a command; what a person must mend is one message and exit code 2, not a traceback."""
    if sys.platform == "win32":
        click.echo(f"mcpace: {_WINDOWS}", err=True)
        sys.exit(2)
    kubectl = Path(sys.argv[0]).stem == "kubectl-mcpace"
    with mending.told():
        mcpace(prog_name="kubectl mcpace" if kubectl else None)


if __name__ == "__main__":
    main()
