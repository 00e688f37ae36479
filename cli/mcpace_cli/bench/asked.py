"""What a run is asked for, and how it speaks to the person at the terminal."""

from __future__ import annotations

from dataclasses import dataclass

from rich.console import Console

from mcpace_cli.show import plain

err = Console(stderr=True, highlight=False, soft_wrap=True, emoji=False, markup=False)


@dataclass(frozen=True, slots=True)
class Asked:
    """What the command line asks for."""

    targets: tuple[str, ...]
    command: tuple[str, ...] = ()
    tools: tuple[str, ...] = ()
    yes: bool = False
    arguments: tuple[str, ...] = ()
    optional: bool = False
    distinct: int = 16
    together: int = 1
    clients: int = 4
    rate: float | None = None
    duration: float = 10.0
    rounds: int = 5
    warm_up: float = 1.0
    seed: int = 1
    levers: bool = False
    limits: bool = False
    api_key_header: str | None = None
    name: str | None = None


def say(text: str) -> None:
    """A line for the person at the terminal."""
    err.print(plain(text))
