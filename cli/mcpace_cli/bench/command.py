"""`mcpace bench` as people type it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, Final

import click

from mcpace_cli.show import FORMATS, Format

_EXITS: Final = (
    "Exit codes: 0 it was measured; 1 a --fail-if came true, or one of those measured answered no call"
    " well; 2 something is to be mended first, and is said; 130 Ctrl-C."
)


class _Bench(click.Command):
    """Takes what stands after `--` as the server's command."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse them; UsageError."""
        at = args.index("--") if "--" in args else len(args)
        rest = super().parse_args(ctx, args[:at])
        ctx.params["command"] = tuple(args[at + 1 :])
        if not ctx.resilient_parsing and not ctx.params["targets"] and not ctx.params["command"]:
            words = "Write a URL, a MANIFEST, or a command of stdio: mcpace bench -- npx -y SERVER."
            raise click.UsageError(words, ctx)
        return rest


def _seconds(_ctx: click.Context, option: click.Parameter, value: str) -> float:
    """A duration in seconds; BadParameter."""
    from mcpace_sidecar.contract.quantity import seconds  # noqa: PLC0415 - because few commands use it

    try:
        length = seconds(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None
    if length == 0 and option.name == "duration":
        raise click.BadParameter("write more than nothing")
    return length


@click.command(cls=_Bench, epilog=_EXITS)
@click.argument("targets", metavar="[URL | MANIFEST]... [-- COMMAND]", nargs=-1)
@click.option(
    "--tool", "tools", multiple=True, metavar="NAME",
    help="A tool that may be called, whatever it does; without it, those that say that they only read.",
)  # fmt: skip
@click.option("-y", "--yes", is_flag=True, help="Agree to the list of the tools that only read.")
@click.option(
    "--arguments", multiple=True, metavar="[TOOL=]JSON|@FILE",
    help="An object, or a list of them to be drawn from; else they are made from the tool's input schema."
    " No report holds them.",
)  # fmt: skip
@click.option("--optional", is_flag=True, help="Make arguments too that are not required.")
@click.option(
    "--distinct", type=click.IntRange(1, 10_000), default=16, show_default=True, metavar="N",
    help="How many different arguments are made for each tool.",
)  # fmt: skip
@click.option(
    "--together", type=click.IntRange(1, 32), default=1, show_default=True, metavar="N",
    help="Calls of one step, which is what is timed: one after another, or at once by the tool `parallel`.",
)  # fmt: skip
@click.option(
    "--clients", type=click.IntRange(1, 1000), default=4, show_default=True, metavar="N",
    help="Clients, each with a session; without --rate each asks when it was answered.",
)  # fmt: skip
@click.option(
    "--rate", type=click.FloatRange(0.01, 100_000), metavar="R",
    help="Begin R steps a second, whoever still waits, and count from when each was due.",
)  # fmt: skip
@click.option(
    "--duration", callback=_seconds, default="10s", show_default=True, metavar="DURATION",
    help="How long each is measured in all.",
)  # fmt: skip
@click.option(
    "--rounds", type=click.IntRange(1, 1000), default=5, show_default=True, metavar="N",
    help="Windows of each, in turn; figures are medians over them.",
)  # fmt: skip
@click.option(
    "--warm-up", callback=_seconds, default="1s", show_default=True, metavar="DURATION",
    help="How long each is called before.",
)  # fmt: skip
@click.option(
    "--seed", type=int, default=1, show_default=True, metavar="N",
    help="Arguments, and the order of calls and windows, are the same for the same seed.",
)  # fmt: skip
@click.option("--levers", is_flag=True, help="Measure each part of the MANIFEST alone, too.")
@click.option("--limits", is_flag=True, help="Keep the MANIFEST's rateLimits, which are lifted otherwise.")
@click.option(
    "--api-key-header", metavar="NAME",
    help="The header that an API key goes into: X-API-Key, unless the manifest says otherwise.",
)  # fmt: skip
@click.option("--name", metavar="NAME", help="Which McpServer, where the manifest's file holds several.")
@click.option(
    "--save", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE",
    help="Keep the result as JSON, without arguments.",
)  # fmt: skip
@click.option(
    "--compare", type=click.Path(path_type=Path, dir_okay=False, exists=True), metavar="FILE",
    help="Say what has changed since a result that was kept.",
)  # fmt: skip
@click.option(
    "--report", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE",
    help="Write a page of HTML that holds everything and loads nothing.",
)  # fmt: skip
@click.option(
    "--fail-if", multiple=True, metavar="CONDITION",
    help="Exit with 1 where it is true of the last one measured: 'p95>200ms', 'errors>1%', 'hits<50%'.",
)  # fmt: skip
@click.option(
    "-o", "--output", type=click.Choice(FORMATS), default="table", show_default=True,
    help="How it is shown.",
)  # fmt: skip
def bench(
    save: Path | None, compare: Path | None, report: Path | None, fail_if: tuple[str, ...], output: Format,
    **options: Any,
) -> None:  # fmt: skip
    """Measure an MCP server, and what mcpace makes of it.

    \b
    mcpace bench URL                        a server as it is
    mcpace bench URL URL                    two beside each other
    mcpace bench MANIFEST [-- COMMAND]      the server directly, beside through the sidecar
    mcpace bench BEFORE AFTER [-- COMMAND]  two manifests beside each other
    mcpace bench -- COMMAND                 a server of stdio

    Windows of the same calls alternate between them. COMMAND, or the manifest's `command`, starts
    the server; else the one that listens at its port is used. Stores are memory, and limits are
    lifted. An API key comes from MCPACE_API_KEY, a bearer token from MCPACE_TOKEN.
    """  # noqa: D301 - click reads \b as that the lines stay as they are
    from mcpace_cli.bench import asked, measure, result  # noqa: PLC0415 - because only this command uses it
    from mcpace_cli.bench.told import document, tell  # noqa: PLC0415 - the same
    from mcpace_cli.show import written  # noqa: PLC0415 - the same

    goals = [result.goal(text) for text in fail_if]
    then = result.load(compare) if compare is not None else None
    for path in (save, report):
        if path is not None and not path.parent.is_dir():
            raise click.UsageError(f"{path}: there is no folder {path.parent}")
    try:
        measured = measure.run(asked.Asked(**options))
    except KeyboardInterrupt:
        sys.exit(130)
    failed = measure.failures(measured, goals)
    if save is not None:
        result.save(measured, save)
    if report is not None:
        from mcpace_cli.bench.report import page  # noqa: PLC0415 - because not every run writes one

        report.write_text(page(measured, then), encoding="utf-8")
    if output == "table":
        tell(measured, then)
    else:
        click.echo(written(document(measured, then, failed), output), nl=False)
    for words in failed:
        asked.say(f"Failed: {words}")
    sys.exit(1 if failed else 0)
