"""`mcpace`: the commands. Each imports what it needs when it runs."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, Final

import click

from mcpace_sidecar import __version__
from mcpace_sidecar.contract.surface import ADMIN_PORT, DATA_PORT, SERVER_PORT, Flag
from mcpace_sidecar.errors import ConfigError, McpaceError


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="mcpace")
def mcpace() -> None:
    """MCP at pace: limits, caching and metrics for MCP servers, from one manifest.

    Any server: of streamable HTTP, of the older pair with SSE, or of stdio.
    """


@mcpace.command()
@click.option(
    Flag.CONFIG, type=click.Path(path_type=Path, dir_okay=False), required=True,
    help="The manifest's subtree for the sidecar, YAML or JSON; reloaded when it changes.",
)  # fmt: skip
@click.option(
    Flag.LISTEN, metavar="HOST:PORT", default=f"127.0.0.1:{DATA_PORT}", show_default=True,
    help="Where calls arrive; *:PORT is every address.",
)  # fmt: skip
@click.option(Flag.ADMIN_LISTEN, metavar="HOST:PORT", default=f"127.0.0.1:{ADMIN_PORT}", show_default=True)
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


def _duration(_ctx: click.Context, _option: click.Parameter, value: str) -> str:
    """A duration as it was written; BadParameter."""
    from mcpace_sidecar.contract.quantity import seconds  # noqa: PLC0415 - because few commands use it

    try:
        seconds(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None
    return value


@mcpace.command()
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), required=True, help="A folder.")
@click.option(
    "--pool-mode",
    type=click.Choice(["transaction", "session", "statement"]),
    default="transaction",
    show_default=True,
)
@click.option("--max-connections", type=click.IntRange(1, 10_000), default=20, show_default=True)
@click.option("--idle-timeout", callback=_duration, default="30s", show_default=True)
@click.option("--connect-timeout", callback=_duration, default="5s", show_default=True)
@click.option(
    "--wait-timeout",
    callback=_duration,
    default="30s",
    show_default=True,
    help="For a connection that is free.",
)
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


@mcpace.command()
@click.option("--store", type=click.Choice(["cache", "limits"]), required=True)
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


@mcpace.command()
def operator() -> None:
    """Run the control plane: watch McpServers and keep their children as they should be."""
    try:
        from mcpace_operator.__main__ import run as operate  # noqa: PLC0415 - because only this command uses it
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"The operator needs {error.name}, which comes with pip install '.[operator]' in a checkout"
        ) from error

    operate()


@mcpace.command()
@click.argument("url")
@click.argument("tool", required=False)
@click.argument("arguments", metavar="[NAME=VALUE]...", nargs=-1)
@click.option(
    "--wait",
    callback=_duration,
    default="0s",
    show_default=True,
    help="How long to try until the server answers.",
)
@click.option(
    "--api-key-header",
    metavar="NAME",
    help="The header that an API key goes into: X-API-Key, unless the manifest says otherwise.",
)
@click.option(
    "--manifest",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="The server's manifest, for its clients.apiKeyHeader.",
)
@click.option("--name", help="Which McpServer, where the manifest's file holds several.")
def call(**options: Any) -> None:
    """Call a TOOL of the MCP server at URL, or list its tools.

    A VALUE that is JSON is taken as that, any other as text: city=Paris days=3. An API key comes
    from MCPACE_API_KEY, a bearer token from MCPACE_TOKEN, or each from the file that the same
    name with _FILE names.
    """
    from mcpace_cli.call import Asked  # noqa: PLC0415 - because only this command uses it
    from mcpace_cli.call import run as call_once  # noqa: PLC0415 - the same

    call_once(Asked(**options))


_WHOSE: Final = "What belongs to the server's command goes after --."


class _Run(click.Command):
    """Takes what stands after `--` as the server's command, be there a manifest before it or not."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse them; UsageError."""
        at = args.index("--") if "--" in args else len(args)
        try:
            rest = super().parse_args(ctx, args[:at])
        except click.NoSuchOption as error:
            raise click.UsageError(f"{error.format_message()} {_WHOSE}", ctx) from error
        command = ctx.params["command"] = (*ctx.params["command"], *args[at + 1 :])
        if ctx.params["manifest"] is None and not command:
            words = "Write a MANIFEST, or the command of a server of stdio: mcpace run -- npx -y SERVER."
            raise click.UsageError(words, ctx)
        if ctx.params["manifest"] is not None and ctx.params["port"] is not None:
            words = f"--port is for a command without a manifest, where it is `port`. {_WHOSE}"
            raise click.UsageError(words, ctx)
        return rest


@mcpace.command(cls=_Run)
@click.argument("manifest", type=click.Path(path_type=Path, dir_okay=False), required=False)
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
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
@click.option("--name", help="Which McpServer, where the manifest's file holds several.")
def run(**options: Any) -> None:
    """Run a server on this machine: no cluster, and no Redis unless MCPACE_LIMITS_URL and
    MCPACE_CACHE_URL name one.

    COMMAND, after `--`, starts the server, with the manifest's `env`, and with PORT and HOST.
    Without it, the server that listens at the manifest's port is used, or else the manifest's
    `command` is started. Where `transport` is stdio, each session has a process of it.

    Without a MANIFEST, COMMAND is a server of stdio: mcpace run -- npx -y SERVER
    """  # noqa: D205 - because click prints this as it stands
    from mcpace_cli.laptop import Asked  # noqa: PLC0415 - because only this command uses it
    from mcpace_cli.laptop import run as run_here  # noqa: PLC0415 - the same

    run_here(Asked(**options))


def main() -> None:
    """Run a command; what a person must mend is one message and exit code 2, not a traceback."""
    try:
        mcpace()
    except McpaceError as error:
        click.echo(f"mcpace: {error}", err=True)
        sys.exit(2)
    except OSError as error:  # a folder that is not there, a disk that is full: theirs to mend, not ours
        place = f"{error.filename}: " if error.filename else ""
        click.echo(f"mcpace: {place}{error.strerror or error}", err=True)
        sys.exit(2)


from mcpace_cli.bench.command import bench  # noqa: E402 - because it joins the commands above

mcpace.add_command(bench)


if __name__ == "__main__":
    main()
