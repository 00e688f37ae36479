"""How what was read is shown: in JSON or YAML to programs, as a table to people.

Names and words come from servers of anybody's: nothing in them is obeyed by a terminal.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final, Literal

import click
import yaml

if TYPE_CHECKING:
    from rich.table import Table

Format = Literal["json", "yaml", "table"]
FORMATS: Final = ("json", "yaml", "table")
_WIDEST: Final = 10_000
"""Columns of what is no terminal: there nothing is cut."""
GAP: Final = 3
"""Columns between two of a table."""
_UNSEEN: Final = re.compile(
    r"[^\n\t\x20-\x7e\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]"
    r"|[\xad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\U000e0000-\U000e0fff]"
)
"""Control characters, and those that turn a line around or are not seen."""
_COLOUR: Final = re.compile(r"\x1b\[[0-9;:]*m")


def plain(text: str) -> str:
    """A text in which whatever a terminal would obey is spelled out."""
    return _UNSEEN.sub(_spelled, text)


def _spelled(match: re.Match[str]) -> str:
    """A character as JSON spells it: two escapes where it takes two units of UTF-16."""
    units = match[0].encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{units[at : at + 4]}" for at in range(0, len(units), 4))


def one_line(text: str) -> str:
    """The same in one line."""
    return plain(" ".join(text.split()))


def line_of(written: bytes) -> str:
    """A line that a program wrote, without colours; whatever else a terminal would obey is spelled out."""
    text = written.decode(errors="replace").rstrip("\r\n")
    return plain(_COLOUR.sub("", text).expandtabs()).rstrip()


def written(document: Any, form: Format) -> str:
    """A document in JSON or YAML."""
    if form == "yaml":
        text = yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=100)
        return (
            text if _UNSEEN.search(text) is None else yaml.safe_dump(document, sort_keys=False, width=100)
        )
    return plain(json.dumps(document, indent=2, ensure_ascii=False)) + "\n"


def show(document: Any, form: Format, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print a document, or the table that says the same to people."""
    if form == "table":
        table(columns, rows)
    else:
        click.echo(written(document, form), nl=False)


def table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print a table; on a terminal its last column is wrapped, elsewhere every row is one line."""
    # Imported here because the images are built without it.
    from rich.console import Console  # noqa: PLC0415 - because of that

    console = Console(file=sys.stdout, highlight=False, emoji=False, markup=False)
    if not console.is_terminal:
        console = Console(file=sys.stdout, highlight=False, emoji=False, markup=False, width=_WIDEST)
    with console.capture() as captured:
        console.print(drawn(columns, rows))
    click.echo("\n".join(each.rstrip() for each in captured.get().rstrip("\n").split("\n")))


def drawn(columns: Sequence[str], rows: Iterable[Sequence[object]], chosen: int | None = None) -> Table:
    """The table itself; `chosen`: the row that stands out."""
    from rich.table import Table  # noqa: PLC0415 - because the images are built without it
    from rich.text import Text  # noqa: PLC0415 - the same

    made = Table(box=None, pad_edge=False, padding=(0, GAP, 0, 0), header_style="bold")
    for number, name in enumerate(columns):
        last = number + 1 == len(columns)
        # What is cut shows that it is: 1 of 120ms would be another number.
        made.add_column(name, no_wrap=not last, overflow="fold" if last else "ellipsis")
    for number, row in enumerate(rows):
        made.add_row(
            *(Text(first_line(each)) for each in row), style="reverse" if number == chosen else None
        )
    return made


def first_line(value: object) -> str:
    """One line: what has several is told by its first."""
    text = "" if value is None else str(value)
    return plain(text.strip().partition("\n")[0])
