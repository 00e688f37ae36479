"""`mcpace top`, `limits`, `cache`, `logs` and `support-bundle` as people type them."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from mcpace_cli.show import FORMATS, Format

if TYPE_CHECKING:
    from mcpace_cli.cluster.access import Where

F = TypeVar("F", bound=Callable[..., Any])

SORTED_BY: Final = ("calls", "p95", "errors", "hits", "limited", "name")
_MISSING: Final = (
    "2 something is to be mended first, and is said: a right that is missing with the rule that gives it."
)
_RIGHTS: Final = (
    "It asks the server's sidecars, which takes their token (get secrets/SERVER-mcpace) and the way to its"
    " pods (get pods/proxy"
)
_CHANGES: Final = f"{_RIGHTS}; create pods/proxy for what changes something)."
_WHERE: Final = (
    click.option("-n", "--namespace", metavar="NAME", help="In place of the context's own, or `default`."),
    click.option("--context", metavar="NAME", help="Of the kubeconfig; its current one, unless said."),
    click.option(
        "--kubeconfig", type=click.Path(dir_okay=False, exists=True), help="In place of KUBECONFIG's."
    ),
)
_output = click.option(
    "-o", "--output", type=click.Choice(FORMATS), default="table", show_default=True,
    help="How it is shown.",
)  # fmt: skip
_server = click.argument("server", metavar="SERVER")


def _by_name(_ctx: click.Context, _argument: click.Parameter, value: str | None) -> str | None:
    """The name of an McpServer; BadParameter where a URL is written."""
    if value is not None and "://" in value:
        raise click.BadParameter(
            "write the name of an McpServer. Of a server on this machine, the terminal and the page of"
            " `mcpace run` tell, and limits, cache and check at its URL."
        )
    return value


_named = click.argument("server", metavar="SERVER", callback=_by_name)


def where(function: F) -> F:
    """The options that say which cluster is meant."""
    for option in reversed(_WHERE):
        function = option(function)
    return function


def place(options: dict[str, Any], *, everywhere: bool = False) -> Where:
    """Which cluster the options mean; they are taken out."""
    from mcpace_cli.cluster.access import Where  # noqa: PLC0415 - because few commands use it

    namespace, context, kubeconfig = (options.pop(name) for name in ("namespace", "context", "kubeconfig"))
    return Where(kubeconfig, context, namespace, everywhere)


def _ends(command: click.Command, words: str) -> None:
    """Let its help end with these."""
    command.help = f"{inspect.cleandoc(command.help or '')}\n\n{words}"


@click.command(
    epilog=f"Exit codes: 0 it is shown, or was ended by q; {_MISSING.removesuffix('.')}; 130 Ctrl-C."
)
@click.argument("server", metavar="[SERVER]", required=False, callback=_by_name)
@click.option("-A", "--all-namespaces", is_flag=True, help="The servers of all namespaces.")
@click.option(
    "--sort", type=click.Choice(SORTED_BY), default="calls", show_default=True,
    help="What the servers are sorted by, the most first.",
)  # fmt: skip
@click.option(
    "--interval", type=click.FloatRange(1, 3600), default=5.0, show_default=True, metavar="SECONDS",
    help="How often it looks anew.",
)  # fmt: skip
@click.option("--once", is_flag=True, help="Print it once on a terminal too.")
@where
@_output
def top(server: str | None, all_namespaces: bool, output: Format, **options: Any) -> None:
    """Show how the cluster's servers do; of one SERVER its tools and clients too.

    Servers are shown as their status tells of them, which takes the rights of the role `view`
    alone. A server opens (enter) to its tools, and these to its clients and what they have left:
    its sidecars tell of them, which takes get of secrets/SERVER-mcpace and of pods/proxy. What is
    missing is said.

    On a terminal it goes on until q; elsewhere, or with --once or another --output, it is printed
    once. Numbers are of five minutes.
    """
    if server is not None and all_namespaces:
        raise click.UsageError("A SERVER is in one namespace: leave -A out, or say which by -n NAMESPACE.")
    from mcpace_cli.cluster.top import Asked, run  # noqa: PLC0415 - because only this command uses it

    cluster = place(options, everywhere=all_namespaces)
    run(Asked(cluster, server, output=output, **options))


@click.group()
def limits() -> None:
    """Show what clients of a server have left of their limits, or give one all of it again."""


@limits.command("show", epilog=f"Exit codes: 0 it is shown; {_MISSING}")
@_server
@click.argument("client", metavar="[CLIENT]", required=False)
@where
@_output
def limits_show(server: str, client: str | None, output: Format, **options: Any) -> None:
    """Show what the clients of SERVER have left: those that have used most first, or one CLIENT.

    SERVER is the name of an McpServer, or the URL of a sidecar's admin port such as the one of
    `mcpace run`, whose token comes from MCPACE_ADMIN_TOKEN. A CLIENT is called as the access log
    calls it: key:SECRET/ENTRY, jwt:NAME, header:NAME or addr:ADDRESS.
    """
    from mcpace_cli.cluster.limits import Asked, tell  # noqa: PLC0415 - because only this command uses it

    tell(Asked(place(options), server, client, output))


_ends(limits_show, f"{_RIGHTS}).")


@limits.command("reset", epilog=f"Exit codes: 0 it is done; {_MISSING}")
@_server
@click.argument("client", metavar="CLIENT")
@where
def limits_reset(server: str, client: str, **options: Any) -> None:
    """Give a CLIENT of SERVER all of its limits again: minute, day, and those of single tools.

    Both are named as for `mcpace limits show`. What all clients share (`per: server`) stays.
    """
    from mcpace_cli.cluster.limits import Asked, reset  # noqa: PLC0415 - because only this command uses it

    reset(Asked(place(options), server, client))


_ends(limits_reset, _CHANGES)


@click.group()
def cache() -> None:
    """Show which results a server's replicas keep, or make them old."""


@cache.command("show", epilog=f"Exit codes: 0 it is shown; {_MISSING}")
@_server
@where
@_output
def cache_show(server: str, output: Format, **options: Any) -> None:
    """Show how many results each replica of SERVER keeps, and how many calls were hits.

    SERVER is the name of an McpServer, or the URL of a sidecar's admin port such as the one of
    `mcpace run`, whose token comes from MCPACE_ADMIN_TOKEN.
    """
    from mcpace_cli.cluster.results import Asked, tell  # noqa: PLC0415 - because only this command uses it

    tell(Asked(place(options), server, output))


_ends(cache_show, f"{_RIGHTS}).")


@cache.command("purge", epilog=f"Exit codes: 0 it is done; {_MISSING}")
@_server
@click.option("--tool", metavar="NAME", help="Results of this tool.")
@click.option("--client", metavar="NAME", help="Results of this client, as the access log calls it.")
@click.option("--all", "everything", is_flag=True, help="All results.")
@where
def cache_purge(
    server: str, tool: str | None, client: str | None, everything: bool, **options: Any
) -> None:
    """Make results of SERVER old, everywhere: the next call of each asks the server.

    SERVER is the name of an McpServer, or the URL of a sidecar's admin port such as the one of
    `mcpace run`, whose token comes from MCPACE_ADMIN_TOKEN.
    """
    if not (tool or client or everything):
        raise click.UsageError("Say which results: --tool NAME, --client NAME, or --all.")
    from mcpace_cli.cluster.results import Asked, purge  # noqa: PLC0415 - because only this command uses it

    purge(Asked(place(options), server, tool=tool, client=client, everything=everything))


_ends(cache_purge, _CHANGES)


@click.command(
    epilog="Exit codes: 0 they are printed; 1 a container had none to show, and why is said;"
    f" {_MISSING.removesuffix('.')}; 130 Ctrl-C."
)
@_named
@click.option(
    "-c", "--container", "containers", metavar="NAME", multiple=True,
    help="This container alone, such as server or mcpace; may be given several times.",
)  # fmt: skip
@click.option(
    "--tail", type=click.IntRange(0, 100_000), default=50, show_default=True, metavar="LINES",
    help="The last lines of each.",
)  # fmt: skip
@click.option("-f", "--follow", is_flag=True, help="Go on with those that come.")
@where
def logs(server: str, containers: tuple[str, ...], tail: int, follow: bool, **options: Any) -> None:
    """Print what the containers of all pods of SERVER say, each line with whose it is.

    It takes the rights of the role `view` (pods, pods/log).
    """
    from mcpace_cli.cluster.logs import Asked, run  # noqa: PLC0415 - because only this command uses it

    sys.exit(run(Asked(place(options), server, containers, tail, follow)))


@click.command("support-bundle", epilog=f"Exit codes: 0 it is written; {_MISSING}")
@_named
@click.option(
    "--out", type=click.Path(path_type=Path, dir_okay=False),
    help="A file that is not there yet; mcpace-SERVER-TIME.tar.gz, unless said.",
)  # fmt: skip
@where
def support_bundle(server: str, out: Path | None, **options: Any) -> None:
    """Write what somebody who helps with SERVER would ask for into one file.

    Manifest, status, children, pods, events, versions, what the sidecars counted, and the ends of
    their logs and of the operator's. No Secret, no argument of a call, no line of the server's own
    log; values of environment variables and what has the form of a credential are masked. What the
    rights of who types it do not show is left out, and said.
    """
    from mcpace_cli.cluster.bundle import Asked, run  # noqa: PLC0415 - because only this command uses it

    run(Asked(place(options), server, out))


COMMANDS: Final = (top, limits, cache, logs, support_bundle)
