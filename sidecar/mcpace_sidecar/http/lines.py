"""The lines of heads: which repeat, and which differ from head to head and decide nothing.

A name whose lines were different a few times is learned to vary, unless somebody here reads it. What
varies is taken out of a head, so that what remains repeats itself; it is checked, not parsed.
"""

from __future__ import annotations

from typing import Final

from mcpace_sidecar.bounded import make_room
from mcpace_sidecar.http.head import MAX_LINES, NAME, VISIBLE, Names

VARIES_AFTER: Final = 8
"""Different lines of one name, after which it is taken to vary."""
_MANY_NAMES: Final = 512
_MANY_LINES: Final = 4096
_LONG_NAME: Final = 64
_LONG_LINE: Final = 1024
MANY_CUTS: Final = 8
"""Names that vary, of which lines are searched for before a head is split into its lines."""

STABLE: Final = 0
VARYING: Final = 1
LENGTH: Final = 2
TRACE: Final = 3
APART: Final = 4
"""What is done about a name's lines."""

Parted = tuple[bytes, bytes, bytes, tuple[bytes, ...], int]
"""(what repeats, the line of a trace, the lines that vary, the values that are handed over apart, the
body's length or -1)."""
Cut = tuple[bytes, bytes, bytes]
"""(what remains, the line of a trace, other lines that vary)."""


class Gap:
    """A value that varies, in a head that is otherwise known."""

    __slots__ = ("kind", "place", "size")

    def __init__(self, kind: int, place: int, size: int) -> None:
        self.kind = kind
        self.place = place
        """Of an APART name: which it is."""
        self.size = size
        """Bytes of its name, the colon included."""


class _Name:
    """What is known of one field's lines."""

    __slots__ = ("cut", "kind", "learns", "lines", "place", "seen")

    def __init__(self, kind: int, place: int = 0, *, learns: bool = False) -> None:
        self.kind = kind
        self.place = place
        """Of an APART name: which it is."""
        self.learns = learns
        """Whether it may turn out to vary."""
        self.cut = False
        """Whether its lines are searched for, in one spelling: of two their order would be lost."""
        self.seen = 0
        self.lines: list[bytes] = []


class Lines:
    """What was learned of the lines of heads, by those who read `names` in them."""

    __slots__ = ("_cuts", "_known", "_lower", "_names", "_written", "varying")

    def __init__(self, names: Names) -> None:
        self._names = names
        self._forget()

    def _forget(self) -> None:
        self._known: dict[bytes, None] = {}
        self._written: dict[bytes, _Name] = {}
        self._lower: dict[bytes, _Name] = {}
        self._cuts: list[tuple[bytes, bool]] = []
        """How lines that vary begin, and whether they are a trace's."""
        self.varying = 0
        """Names that were learned to vary."""

    def cut(self, raw: bytes) -> Cut | None:
        """Take lines that vary out of a head, the first of each name; None where one of them is odd.

        Nothing else is looked at: what remains must be known, or be taken apart.
        """
        rest, trace, varying = raw, b"", b""
        for begin, is_trace_line in self._cuts:
            start = rest.find(begin) + 2
            if start == 1:
                continue
            end = rest.find(b"\r\n", start) + 2
            line = rest[start:end]
            if is_trace_line:
                if trace or not is_trace(line[len(begin) - 2 : -2]):
                    return None
                trace = line
            elif line[:-2].translate(None, VISIBLE):
                return None
            else:
                varying += line
            rest = rest[:start] + rest[end:]
        return rest, trace, varying

    def part(self, raw: bytes) -> Parted | None:
        """Take a head apart; None where it is odd in any way, and has to be parsed whole."""
        lines = raw.split(b"\r\n")
        if len(lines) - 3 > MAX_LINES:
            return None
        if len(self._written) > _MANY_NAMES:
            self._forget()
        known, written = self._known, self._written
        stable = [lines[0]]
        trace = b""
        varying: list[bytes] = []
        apart: list[bytes] | None = None
        length = -1
        for index in range(1, len(lines) - 2):
            line = lines[index]
            if line in known:
                stable.append(line)
                continue
            spelled, colon, value = line.partition(b":")
            name = written.get(spelled) if colon else None
            if name is None:
                name = self._meet(spelled, colon)
                if name is None:
                    return None
            kind = name.kind
            if kind == STABLE:
                self._learn(name, line)
                stable.append(line)
                continue
            if line.translate(None, VISIBLE):
                return None
            if kind == VARYING:
                varying.append(line)
            elif kind == LENGTH:
                digits = value.strip(b" \t")
                if length >= 0 or not digits.isdigit() or len(digits) > 15:
                    return None
                length = int(digits)
            elif kind == TRACE:
                if trace or not is_trace(value):
                    return None
                trace = line + b"\r\n"
            else:
                if apart is None:
                    apart = [b""] * len(self._names.apart)
                elif apart[name.place]:
                    return None
                apart[name.place] = value.strip(b" \t")
        values = tuple(apart) if apart is not None and any(apart) else ()
        rest = b"\r\n".join(stable) + b"\r\n\r\n"
        return rest, trace, b"\r\n".join([*varying, b""]) if varying else b"", values, length

    def gaps(self, raw: bytes) -> tuple[list[bytes], list[Gap]]:
        """What repeats itself of a head that was taken apart, and what stands between: values that vary."""
        pieces: list[bytes] = []
        gaps: list[Gap] = []
        begin, at = 0, raw.find(b"\r\n") + 2
        for line in raw[at:-4].split(b"\r\n"):
            spelled = line.partition(b":")[0]
            name = self._written.get(spelled)
            if name is not None and name.kind in (VARYING, TRACE, APART):
                size = len(spelled) + 1
                pieces.append(raw[begin : at + size])
                gaps.append(Gap(name.kind, name.place, size))
                begin = at + len(line)
            at += len(line) + 2
        pieces.append(raw[begin:])
        return pieces, gaps

    def _meet(self, spelled: bytes, colon: bytes) -> _Name | None:
        """Meet a name as it is spelled here; None: it is no name."""
        if not colon or NAME.fullmatch(spelled) is None:
            return None
        if len(spelled) > _LONG_NAME:
            return _ODD
        lower = spelled.lower()
        name = self._lower.get(lower)
        if name is None:
            name = self._lower[lower] = self._judge(lower)
        self._written[spelled] = name
        if name.kind in (VARYING, TRACE):
            self._search(spelled, name)
        return name

    def _search(self, spelled: bytes, name: _Name) -> None:
        if len(self._cuts) < MANY_CUTS and not name.cut:
            name.cut = True
            self._cuts.append((b"\r\n%b:" % spelled, name.kind == TRACE))

    def _judge(self, lower: bytes) -> _Name:
        names = self._names
        if lower in names.apart:
            return _Name(APART, names.apart.index(lower))
        if lower == b"content-length":
            return _Name(LENGTH)
        if lower == b"traceparent":
            return _Name(TRACE)
        return _Name(STABLE, learns=not names.reads(lower) and names.taken_for(lower) is None)

    def _learn(self, name: _Name, line: bytes) -> None:
        """Remember a line that was not known, or that its name varies."""
        if name.learns:
            name.seen += 1
            if name.seen > VARIES_AFTER:
                name.kind = VARYING
                self.varying += 1
                self._search(line.partition(b":")[0], name)
                for old in name.lines:
                    self._known.pop(old, None)
                name.lines = []
                return
        if name is not _ODD and len(line) <= _LONG_LINE:
            make_room(self._known, _MANY_LINES)
            self._known[line] = None
            if name.learns:
                name.lines.append(line)


_ODD: Final = _Name(STABLE)
"""A name too long to be remembered."""


def is_trace(value: bytes) -> bool:
    """Whether this is a usual `traceparent`, behind one blank (W3C Trace Context, section 3.2)."""
    return len(value) == 56 and value.translate(None, b"0123456789abcdef") == b" ---"


def names_one(lines: bytes, options: frozenset[bytes]) -> bool:
    """Whether Connection's options name one of these lines, which then goes no further."""
    return any(line.partition(b":")[0].lower() in options for line in lines.split(b"\r\n"))
