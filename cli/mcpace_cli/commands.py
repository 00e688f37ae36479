"""What people type: each command with its options. Each imports what it needs when it runs."""

from __future__ import annotations

import platform
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, Literal, TypeVar

import click

from mcpace_cli.bench.command import bench
from mcpace_cli.cluster import command as cluster
from mcpace_cli.cluster.command import place, where
from mcpace_cli.dashes import Asking, Calling, Making
from mcpace_cli.live.command import run
from mcpace_cli.mending import MENDED
from mcpace_cli.show import FORMATS, Format, show
from mcpace_sidecar import __version__
from mcpace_sidecar.contract.surface import ADMIN_PORT, DATA_PORT

F = TypeVar("F", bound=Callable[..., Any])

_ANSWERED: Final = "2 the server does not answer, or refuses, and why is said."
NO_UID: Final = "00000000-0000-0000-0000-000000000000"
"""Stands for what an API server gives a resource when it is made."""


def duration(_ctx: click.Context, _option: click.Parameter, value: str) -> str:
    """A duration as it was written; BadParameter."""
    try:
        _seconds(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None
    return value


def _seconds(value: str) -> float:
    """Of a duration; ValueError."""
    from mcpace_sidecar.contract.quantity import seconds  # noqa: PLC0415 - because few commands use it

    return seconds(value)


def _output(usual: Format | None) -> Callable[[F], F]:
    """The option of whatever is read."""
    words = "" if usual else " Without it: the result in JSON, or a line a tool."
    return click.option(
        "-o", "--output", type=click.Choice(FORMATS), default=usual, show_default=usual is not None,
        help=f"How it is shown.{words}",
    )  # fmt: skip


_name = click.option(
    "--name", metavar="NAME", help="Which McpServer, where the manifest's file holds several."
)
_manifest = click.argument("manifest", type=click.Path(path_type=Path, dir_okay=False))


_OF_ASKING: Final = (
    click.option(
        "--wait", metavar="DURATION", callback=duration, default="0s", show_default=True,
        help="How long to try until the server answers; no call of a tool is made twice.",
    ),
    click.option(
        "--transport", type=click.Choice(["auto", "http", "sse"]), default="auto", show_default=True,
        help="How a URL is spoken to: by streamable HTTP, by the older pair with SSE, or as it turns out.",
    ),
    click.option(
        "--api-key-header", metavar="NAME",
        help="The header that an API key goes into: X-API-Key, unless the manifest says otherwise.",
    ),
    click.option(
        "--manifest", type=click.Path(path_type=Path, dir_okay=False, exists=True),
        help="The server's manifest, for its clients.apiKeyHeader.",
    ),
    _name,
)  # fmt: skip


def _asks(words: str) -> Callable[[F], F]:
    """The arguments, as `words` show them, and options of whatever asks a server."""

    def decorate(function: F) -> F:
        for option in reversed(_OF_ASKING):
            function = option(function)
        return click.argument("words", metavar=words, nargs=-1)(function)

    return decorate


def _asked(options: dict[str, Any]) -> dict[str, Any]:
    """The options with whom they name, and the seconds that are waited, in place of what says so."""
    from mcpace_cli.target import Target, key_header  # noqa: PLC0415 - because few commands use them

    header = key_header(*(options.pop(name) for name in ("api_key_header", "manifest", "name")))
    url, command, transport = (options.pop(name) for name in ("url", "command", "transport"))
    whom = Target.of(url, command, transport, header)
    return options | {"target": whom, "wait": _seconds(options["wait"])}


_SERVER: Final = re.compile(r"(?i:https?://).*|[a-z0-9]([a-z0-9-]*[a-z0-9])?")
"""What `mcpace check` takes for a running server, unless there is a file of that name."""


@click.command(
    epilog="Exit codes: 0 an API server would take all of it, or no item failed; 1 something is to be"
    " mended; 2 a file cannot be read, the server does not answer, or a right is missing, and is said."
)
@click.argument("what", metavar="MANIFEST...|SERVER...|URL...", nargs=-1, required=True)
@click.option(
    "--against", metavar="URL",
    help="The server that manifests are for, which is asked: what it does not list is an error then.",
)  # fmt: skip
@where
@_output("table")
@click.pass_context
def check(
    ctx: click.Context, /, what: tuple[str, ...], against: str | None, output: Format, **options: Any
) -> None:
    """Say what is wrong with a MANIFEST or with a server that runs, and what to write instead.

    Of a MANIFEST (a file; - is standard input) it says where that is.

    The verdict is the API server's, without one: schema, rules between fields, names. A file may
    hold several documents: each McpServer is judged, others are named. A line of it is
    FILE:LINE:COLUMN: FIELD: what to write. Rules that would do nothing are warnings, which change
    no exit code.

    --against asks a running server: tools, prompts and arguments that it does not list are errors,
    and so is a cached tool that says it writes.

    Of a SERVER, an McpServer in a cluster by its name, it says how the ten items of the performance
    checklist stand, with the evidence, and shows the manifest's fields as they would stand once
    those that fail are mended. That takes the rights of the role `view`. A URL is that of a
    laptop's sidecar (`mcpace run`), whose token comes from MCPACE_ADMIN_TOKEN.
    """
    which = place(options)
    servers = [
        each for each in what if _SERVER.fullmatch(each) and (":" in each or not Path(each).exists())
    ]
    if servers:
        if len(servers) < len(what) or against is not None:
            words = f"{servers[0]} is no file, so a server that runs: check it alone, without --against."
            raise click.UsageError(words)
        from mcpace_cli.cluster.checkup import run as check_up  # noqa: PLC0415 - because of the cluster's client

        sys.exit(check_up(servers, which, output))
    file = click.Path(path_type=Path, dir_okay=False, allow_dash=True)
    manifests = tuple(file.convert(each, None, ctx) for each in what)
    from mcpace_cli.check import Asked  # noqa: PLC0415 - because only this command uses it
    from mcpace_cli.check import run as check_all  # noqa: PLC0415 - the same

    catalog = None
    if against is not None:
        from mcpace_cli import listing  # noqa: PLC0415 - because the official client is slow to import
        from mcpace_cli.target import Target  # noqa: PLC0415 - because few commands use it

        catalog = listing.catalog(Target.of(against))
    sys.exit(check_all(Asked(manifests, output), catalog))


@click.command(epilog=f"Exit codes: 0 they are printed; {MENDED}")
@_manifest
@click.option(
    "--name", metavar="NAME", help="This McpServer alone, where the manifest's file holds several."
)
@click.option("-n", "--namespace", metavar="NAME", help="In place of the manifest's own, or `default`.")
@click.option("--uid", default=NO_UID, metavar="UID", help="The McpServer's metadata.uid in the cluster.")
@click.option("--restricted", is_flag=True, help="As in a namespace that takes `restricted` pods alone.")
@click.option(
    "--prometheus/--no-prometheus", default=True,
    help="Whether the cluster knows ServiceMonitor and PrometheusRule; it does, unless said.",
)  # fmt: skip
@_output("yaml")
def render(**options: Any) -> None:
    """Print every object that the operator would apply for a MANIFEST, without a cluster.

    By the same code: to the byte what is applied, where --uid and the operator's environment
    (MCPACE_MASTER_KEY, MCPACE_LIMITS_URL and its kin) are given. What the Secret holds is never
    printed, so that what is printed can be shown and kept; it cannot be applied in its stead.
    """
    from mcpace_cli.render import Asked  # noqa: PLC0415 - because only this command uses it
    from mcpace_cli.render import run as render_all  # noqa: PLC0415 - the same

    render_all(Asked(**options))


@click.command(
    cls=Calling,
    epilog="Exit codes: 0 the tool answered; 1 it says that it failed; 2 it was not called, and why is"
    " said.",
)
@_asks("[URL] [TOOL] [NAME=VALUE]... [-- COMMAND...]")
@click.option(
    "--timeout", metavar="DURATION", callback=duration, default="60s", show_default=True,
    help="How long the tool may take.",
)  # fmt: skip
@click.option("--all-pages", is_flag=True, help="Read further pages of the result, or of the list, too.")
@click.option(
    "--admin", metavar="URL",
    help="The sidecar's admin port, whose metrics tell whether it was a hit;"
    f" http://127.0.0.1:{ADMIN_PORT} of http://127.0.0.1:{DATA_PORT}.",
)  # fmt: skip
@_output(None)
def call(**options: Any) -> None:
    """Call a TOOL of the MCP server at URL, or list its tools; after -- the COMMAND of a server of
    stdio stands for its URL.

    A VALUE that is JSON is taken as that, any other as text: city=Paris days=3; where the tool
    takes nothing but text, it is text: zip=8000. An API key comes from MCPACE_API_KEY, a bearer
    token from MCPACE_TOKEN, or each from the file that the same name with _FILE names.

    Standard error says how many milliseconds it took, what is left of the limits, and where the
    result was, where the sidecar's admin port tells it (and nobody else called the tool meanwhile).
    """  # noqa: D205 - because click prints this as it stands
    asked = _asked(options) | {"timeout": _seconds(options["timeout"])}
    from mcpace_cli.call import Asked  # noqa: PLC0415 - because only this command uses it
    from mcpace_cli.call import run as call_once  # noqa: PLC0415 - the same

    call_once(Asked(**asked))


@click.command(
    epilog="Exit codes: 0 the tool answered; 1 it says that it failed; 2 it was not called, and why is"
    " said."
)
@click.argument("url")
@click.argument("tool")
@click.argument("arguments", metavar="[NAME=VALUE]...", nargs=-1)
@click.option(
    "--wait", metavar="DURATION", callback=duration, default="0s", show_default=True,
    help="How long it is tried again while there is no answer; HTTP 401 and 403 end it at once.",
)  # fmt: skip
def probe(url: str, tool: str, arguments: tuple[str, ...], wait: str) -> None:
    """Call a TOOL of the MCP server at URL without the official client, as images can, which lack
    it: `helm test` does. Everywhere else `mcpace call` says more.
    """  # noqa: D205 - because click prints this as it stands
    from mcpace_cli.probe import run as probe_once  # noqa: PLC0415 - because only this command uses it

    probe_once(url, tool, arguments, _seconds(wait))


def _lists(what: Literal["tools", "resources", "prompts"], words: str) -> click.Command:
    """The command that shows one of a server's lists."""

    @click.command(what, cls=Asking, help=words, epilog=f"Exit codes: 0 they are shown; {_ANSWERED}")
    @_asks("[URL] [-- COMMAND...]")
    @click.option("--all-pages", is_flag=True, help="Ask for further pages of the list too.")
    @_output("table")
    def command(**options: Any) -> None:
        asked = _asked(options)
        from mcpace_cli.listing import Asked  # noqa: PLC0415 - because only these commands use it
        from mcpace_cli.listing import run as show_list  # noqa: PLC0415 - the same

        show_list(Asked(what=what, **asked))

    return command


_CREDENTIALS: Final = " A key comes from MCPACE_API_KEY, a token from MCPACE_TOKEN, as with `mcpace call`."
tools = _lists("tools", f"Show the tools that a server lists, and what it says of them.{_CREDENTIALS}")
resources = _lists("resources", f"Show the resources that a server lists, and its templates.{_CREDENTIALS}")
prompts = _lists("prompts", f"Show the prompts that a server lists.{_CREDENTIALS}")


@click.command(
    cls=Making,
    options_metavar="[OPTIONS] [-- COMMAND...]",
    epilog=f"Exit codes: 0 it is written; {_ANSWERED}",
)
@click.option("--from", "url", metavar="URL", help="A server that runs.")
@click.option(
    "--port", type=click.IntRange(1, 65535), metavar="PORT",
    help="The port at which the command's server speaks HTTP; else it speaks stdio.",
)  # fmt: skip
@click.option(
    "--call", "calls", metavar="'TOOL NAME=VALUE'", multiple=True,
    help="Call this tool once, for its time and size; may be given several times.",
)  # fmt: skip
@click.option("--name", metavar="NAME", help="What the McpServer is called; like the server, unless said.")
@click.option("--image", metavar="IMAGE", help="The server's image; NAME:latest stands there, unless said.")
@click.option(
    "--out", type=click.Path(path_type=Path, dir_okay=False),
    help="A file to write, which must not be there yet; else it is printed.",
)  # fmt: skip
def init(**options: Any) -> None:
    """Write a manifest for a server: one that runs, or one that the COMMAND after -- starts.

    The server is asked what it lists. What its tools say of themselves (and of those of --call,
    their time and size) becomes suggestions: for a cache, limits and pages. All of them are
    comments, so that nothing is switched on but by you. No tool is called but by --call.
    """
    import asyncio  # noqa: PLC0415 - because only this command uses it

    from mcpace_cli.init import Asked  # noqa: PLC0415 - because the official client is slow to import
    from mcpace_cli.init import run as write  # noqa: PLC0415 - the same
    from mcpace_cli.target import Target  # noqa: PLC0415 - because few commands use it

    url = options.pop("url")
    whom = Target.of(url) if url is not None else None
    asyncio.run(write(Asked(target=whom, **options)))


@click.command(epilog="Exit codes: 0 it is printed; 2 that shell is not known.")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print what completes commands and options in a shell.

    \b
    bash: eval "$(mcpace completion bash)"                         in ~/.bashrc
    zsh:  eval "$(mcpace completion zsh)"                          in ~/.zshrc
    fish: mcpace completion fish > ~/.config/fish/completions/mcpace.fish
    """  # noqa: D301 - click reads \b as that the lines stay as they are
    from click.shell_completion import get_completion_class  # noqa: PLC0415 - because only this command uses it

    kind = get_completion_class(shell)
    assert kind is not None, "click knows the shells that are chosen from"
    click.echo(kind(ctx.find_root().command, {}, "mcpace", "_MCPACE_COMPLETE").source())


@click.command(epilog="Exit codes: 0.")
@_output("table")
def version(output: Format) -> None:
    """Print which mcpace this is, and what it runs on."""
    from mcpace_operator.resource.models import API_VERSION  # noqa: PLC0415 - because only this command uses it

    told = {
        "version": __version__,
        "apiVersion": API_VERSION,
        "python": platform.python_version(),
        "platform": f"{sys.platform} {platform.machine()}",
    }
    show(told, output, tuple(map(str.upper, told)), [tuple(told.values())])


COMMANDS: Final = (
    run, init, check, render, call, probe, tools, resources, prompts, bench, *cluster.COMMANDS, completion,
    version,
)  # fmt: skip
