"""Commands that take what stands after `--` as what starts a server."""

from __future__ import annotations

from typing import ClassVar, Final

import click

_WHOSE: Final = "What belongs to the server's command goes after --."


def _split(args: list[str]) -> tuple[list[str], tuple[str, ...]]:
    """What stands before `--`, and the command after it."""
    at = args.index("--") if "--" in args else len(args)
    return args[:at], tuple(args[at + 1 :])


class Run(click.Command):
    """Takes what stands after `--` as the server's command, be there a manifest before it or not."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse them; UsageError."""
        before, after = _split(args)
        try:
            rest = super().parse_args(ctx, before)
        except click.NoSuchOption as error:
            raise click.UsageError(f"{error.format_message()} {_WHOSE}", ctx) from error
        if ctx.resilient_parsing:  # a shell completes what is not finished yet
            return rest
        ctx.params["command"] = after
        manifests = ctx.params["manifests"]
        if not manifests and not after:
            words = "Write a MANIFEST, or the command of a server of stdio: mcpace run -- npx -y SERVER."
            raise click.UsageError(words, ctx)
        if manifests and ctx.params["port"] is not None:
            words = f"--port is for a command without a manifest, where it is `port`. {_WHOSE}"
            raise click.UsageError(words, ctx)
        if len(manifests) > 1 and ctx.params["name"] is not None:
            words = "--name chooses one McpServer of one MANIFEST: name that manifest alone."
            raise click.UsageError(words, ctx)
        return rest


class Asking(click.Command):
    """Asks a server: the one at a URL, or the one of stdio that the command after `--` starts."""

    takes: ClassVar[tuple[str, ...]] = ()
    """What else may be written: each one word, the last all that are left."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse them; UsageError."""
        before, command = _split(args)
        rest = super().parse_args(ctx, before)
        words = list(ctx.params.pop("words") or ())
        if ctx.resilient_parsing:
            return rest
        if not command and not words:
            raise click.UsageError("Write the server's URL, or after -- the command that starts it.", ctx)
        ctx.params |= {"command": command, "url": None if command else words.pop(0)}
        for name in self.takes[:-1]:
            ctx.params[name] = words.pop(0) if words else None
        if self.takes:
            ctx.params[self.takes[-1]] = tuple(words)
        elif words:
            raise click.UsageError(f"One server is asked, so what is {words[0]!r}?", ctx)
        return rest


class Calling(Asking):
    """Asks one for a tool, with arguments."""

    takes: ClassVar[tuple[str, ...]] = ("tool", "arguments")


class Making(click.Command):
    """Looks at one server: the one at a URL, or the one that the command after `--` starts."""

    allow_extra_args = True  # to say of them where they belong

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse them; UsageError."""
        before, command = _split(args)
        try:
            rest = super().parse_args(ctx, before)
        except click.NoSuchOption as error:
            raise click.UsageError(f"{error.format_message()} {_WHOSE}", ctx) from error
        ctx.params["command"] = command
        if rest and not ctx.resilient_parsing:
            where = "--from" if "://" in rest[0] else "--"
            raise click.UsageError(f"{rest[0]!r} belongs after {where}: mcpace init {where} {rest[0]}", ctx)
        if not ctx.resilient_parsing and bool(command) == bool(ctx.params["url"]):
            raise click.UsageError("Write --from URL, or after -- the command that starts the server.", ctx)
        if not command and ctx.params["port"] is not None:
            raise click.UsageError("--port is for a command, which is started to listen there.", ctx)
        return rest
