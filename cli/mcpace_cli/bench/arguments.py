"""Arguments of a tool, made from its input schema: of the right types, small, the same for the same seed.

A schema is a stranger's: it may be deep, refer to itself, or ask for a text of a gigabyte. No pattern of it
is ever run. What cannot be made in reason is refused, with words that say what to give instead.
Source: JSON Schema 2020-12, validation and core.
"""

from __future__ import annotations

import datetime as dt
import math
import random
import uuid
from collections.abc import Mapping
from typing import Any, Final

from mcpace_sidecar.errors import McpaceError

_DEEPEST: Final = 16
"""Levels of a schema that are looked into, references included."""
_MOST_STEPS: Final = 2_000
"""Schemas that are looked at for one set of arguments."""
_LONGEST: Final = 4_096
"""Characters of one text."""
_LARGEST: Final = 64 * 1024
"""Characters of all texts of one set of arguments."""
_MOST_ITEMS: Final = 64
_ENDLESS: Final = 1 << 62
_SPREAD: Final = 100
"""How far above its least a number is drawn."""
_WORDS: Final = (
    "alpha", "bravo", "charlie", "delta", "echo", "foxtrot", "golf", "hotel", "india", "juliett", "kilo",
    "lima", "mike", "november", "oscar", "papa", "quebec", "romeo", "sierra", "tango", "uniform", "victor",
    "whiskey", "xray", "yankee", "zulu",
)  # fmt: skip
_FIRST_DAY: Final = dt.date(2026, 1, 1)
_GIVE: Final = "give arguments that fit by --arguments"


class UnmadeError(McpaceError):
    """A schema from which no arguments are made."""


def make(schema: Any, seed: str, *, optional: bool = False) -> dict[str, Any]:
    """One set of arguments; UnmadeError. Those that are not required are left out unless `optional`."""
    made = _Maker(schema, random.Random(seed), optional).value(schema, 0, "arguments")  # noqa: S311 - because nothing is kept secret by it
    if not isinstance(made, dict):
        raise UnmadeError(f"its input schema describes no object; {_GIVE}")
    return made


class _Maker:
    """Makes one value; counts what it has cost."""

    def __init__(self, root: Any, draw: random.Random, optional: bool) -> None:
        self._root = root
        self._draw = draw
        self._optional = optional
        self._steps = 0
        self._written = 0

    def value(self, schema: Any, depth: int, path: str) -> Any:
        """A value that the schema takes; UnmadeError."""
        self._steps += 1
        if depth > _DEEPEST or self._steps > _MOST_STEPS:
            raise UnmadeError(f"{path} is nested too deeply, or in itself; {_GIVE}")
        if schema is False:
            raise UnmadeError(f"{path} takes no value at all; {_GIVE}")
        if not isinstance(schema, Mapping):
            schema = {}
        if isinstance(schema.get("$ref"), str):
            rest = {key: part for key, part in schema.items() if key != "$ref"}
            return self.value({**self._referred(schema["$ref"], path), **rest}, depth + 1, path)
        if "const" in schema:
            return self._kept(schema["const"], path)
        for kind in ("enum", "examples"):
            choices = schema.get(kind)
            if isinstance(choices, list) and choices:
                return self._kept(self._draw.choice(choices), path)
        if "default" in schema and schema["default"] is not None:
            return self._kept(schema["default"], path)
        if isinstance(schema.get("allOf"), list) and schema["allOf"]:
            return self.value(self._merged(schema, depth, path), depth + 1, path)
        for kind in ("anyOf", "oneOf"):
            if isinstance(schema.get(kind), list) and schema[kind]:
                return self._first_of(schema, kind, depth, path)
        return self._of_type(schema, depth, path)

    def _referred(self, reference: str, path: str) -> Mapping[str, Any]:
        """What a reference inside the schema leads to (RFC 6901); others are not followed."""
        found: Any = self._root
        if reference != "#" and not reference.startswith("#/"):
            raise UnmadeError(f"{path} refers to another document; {_GIVE}")
        for part in reference.split("/")[1:]:
            key = part.replace("~1", "/").replace("~0", "~")
            if (
                isinstance(found, list)
                and key.isascii()
                and key.isdigit()
                and len(key) < 6
                and int(key) < len(found)
            ):
                found = found[int(key)]
            elif isinstance(found, Mapping) and key in found:
                found = found[key]
            else:
                raise UnmadeError(f"{path} refers to what is not there; {_GIVE}")
        return found if isinstance(found, Mapping) else {}

    def _merged(self, schema: Mapping[str, Any], depth: int, path: str) -> dict[str, Any]:
        """A schema and all that it must be besides, as one."""
        merged: dict[str, Any] = {key: part for key, part in schema.items() if key != "allOf"}
        for part in schema["allOf"]:
            self._steps += 1
            if depth > _DEEPEST or self._steps > _MOST_STEPS:
                raise UnmadeError(f"{path} is nested too deeply, or in itself; {_GIVE}")
            inner = part if isinstance(part, Mapping) else {}
            if isinstance(inner.get("$ref"), str):
                inner = self._referred(inner["$ref"], path)
            if isinstance(inner.get("allOf"), list):
                inner = self._merged(inner, depth + 1, path)
            for key, value in inner.items():
                if (
                    key == "properties"
                    and isinstance(merged.get(key), Mapping)
                    and isinstance(value, Mapping)
                ):
                    merged[key] = {**merged[key], **value}
                elif key == "required" and isinstance(merged.get(key), list) and isinstance(value, list):
                    merged[key] = [*merged[key], *value]
                else:
                    merged[key] = value
        return merged

    def _first_of(self, schema: Mapping[str, Any], kind: str, depth: int, path: str) -> Any:
        """By the first alternative from which something can be made, null last."""
        rest = {key: part for key, part in schema.items() if key != kind}
        failed: UnmadeError | None = None
        for alternative in sorted(schema[kind], key=_is_null):
            inner = alternative if isinstance(alternative, Mapping) else {}
            try:
                return self.value({**rest, **inner}, depth + 1, path)
            except UnmadeError as error:
                failed = failed or error
        assert failed is not None
        raise failed

    def _of_type(self, schema: Mapping[str, Any], depth: int, path: str) -> Any:
        kinds = schema.get("type")
        if isinstance(kinds, list):
            kinds = next((kind for kind in kinds if kind != "null"), "null")
        if kinds is None:
            kinds = _guessed(schema)
        if kinds == "object":
            return self._object(schema, depth, path)
        if kinds == "array":
            return self._array(schema, depth, path)
        if kinds in ("integer", "number"):
            return self._number(schema, path, whole=kinds == "integer")
        if kinds == "boolean":
            return self._draw.random() < 0.5
        if kinds == "null":
            return None
        return self._text(schema, path)

    def _object(self, schema: Mapping[str, Any], depth: int, path: str) -> dict[str, Any]:
        properties = schema.get("properties")
        properties = properties if isinstance(properties, Mapping) else {}
        required = schema.get("required")
        required = (
            [name for name in required if isinstance(name, str)] if isinstance(required, list) else []
        )
        made: dict[str, Any] = {}
        for name in dict.fromkeys(required):
            inner = properties.get(name, schema.get("additionalProperties", {}))
            made[name] = self.value(inner, depth + 1, _below(path, name))
        for name, inner in properties.items() if self._optional else ():
            if name in made:
                continue
            try:
                made[name] = self.value(inner, depth + 1, _below(path, name))
            except UnmadeError:
                continue  # it may as well be left out
        return made

    def _array(self, schema: Mapping[str, Any], depth: int, path: str) -> list[Any]:
        least = _whole(schema.get("minItems"), 0)
        most = _whole(schema.get("maxItems"), _MOST_ITEMS)
        number = max(least, min(2, most))
        if number > _MOST_ITEMS:
            raise UnmadeError(f"{path} wants {least} items or more; {_GIVE}")
        first = schema.get("prefixItems")
        first = first[:number] if isinstance(first, list) else []
        rest = schema.get("items", {})
        if rest is False:
            number = min(number, len(first))
        made: list[Any] = []
        for at in range(number):
            inner = first[at] if at < len(first) else rest
            item = self.value(inner, depth + 1, f"{path}[{at}]")
            if schema.get("uniqueItems") is True:
                for _ in range(_MOST_ITEMS):
                    if item not in made:
                        break
                    item = self.value(inner, depth + 1, f"{path}[{at}]")
                if item in made:
                    if at >= least:
                        break
                    raise UnmadeError(f"{path} wants {least} different items; {_GIVE}")
            made.append(item)
        return made

    def _number(self, schema: Mapping[str, Any], path: str, *, whole: bool) -> float:
        step = _finite(schema.get("multipleOf")) or (1 if whole else 0.5)
        if step <= 0 or (whole and step != int(step)):
            raise UnmadeError(f"{path} is a multiple of {step:g}; {_GIVE}")
        low, high = _finite(schema.get("minimum")), _finite(schema.get("maximum"))
        above, below = _finite(schema.get("exclusiveMinimum")), _finite(schema.get("exclusiveMaximum"))
        if above is not None and (low is None or above >= low):
            low = above + (step if (above / step).is_integer() else 0)
        if below is not None and (high is None or below <= high):
            high = below - (step if (below / step).is_integer() else 0)
        if low is None:
            low = min(1.0, high) if high is not None else 1.0
        first = math.ceil(low / step)
        last = first + _SPREAD if high is None else min(math.floor(high / step), first + _SPREAD)
        if last < first or max(abs(first), abs(last)) * step > 2**53:
            raise UnmadeError(f"{path} is a number that is not made; {_GIVE}")
        drawn = self._draw.randint(first, last) * step
        return int(drawn) if whole else drawn

    def _text(self, schema: Mapping[str, Any], path: str) -> str:
        if "pattern" in schema:
            raise UnmadeError(f"{path} must match a pattern; {_GIVE}")
        least = _whole(schema.get("minLength"), 0)
        most = _whole(schema.get("maxLength"), _LONGEST)
        if least > _LONGEST or least > most:
            raise UnmadeError(f"{path} wants a text of {least} characters or more; {_GIVE}")
        text = self._of_format(schema.get("format"))
        if text is None:
            text = f"{self._draw.choice(_WORDS)}-{self._draw.randrange(1000)}"
            while len(text) < least:
                text += f" {self._draw.choice(_WORDS)}"
            text = text[: max(least, min(most, len(text)))]
        return str(self._kept(text, path))

    def _of_format(self, kind: Any) -> str | None:
        draw = self._draw
        day = _FIRST_DAY + dt.timedelta(days=draw.randrange(365))
        word = draw.choice(_WORDS)
        known = {
            "date": day.isoformat(),
            "date-time": f"{day.isoformat()}T{draw.randrange(24):02}:{draw.randrange(60):02}:00Z",
            "time": f"{draw.randrange(24):02}:{draw.randrange(60):02}:00Z",
            "duration": f"P{draw.randrange(1, 30)}D",
            "email": f"{word}@example.com",
            "hostname": f"{word}.example.com",
            "ipv4": f"192.0.2.{draw.randrange(1, 255)}",
            "ipv6": f"2001:db8::{draw.randrange(1, 255):x}",
            "uri": f"https://example.com/{word}",
            "url": f"https://example.com/{word}",
            "uri-reference": f"/{word}",
            "uuid": str(uuid.UUID(int=draw.getrandbits(128), version=4)),
        }
        return known.get(kind) if isinstance(kind, str) else None

    def _kept(self, value: Any, path: str) -> Any:
        """A value of the schema's own, where it is not too much."""
        self._written += _size(value, 0)
        if self._written > _LARGEST:
            raise UnmadeError(f"{path} would be too large; {_GIVE}")
        return value


def _size(value: Any, depth: int) -> int:
    if depth > _DEEPEST:
        return _LARGEST + 1
    if isinstance(value, str):
        return len(value)
    if isinstance(value, Mapping):
        return 1 + sum(len(str(key)) + _size(part, depth + 1) for key, part in value.items())
    if isinstance(value, list):
        return 1 + sum(_size(part, depth + 1) for part in value)
    if isinstance(value, int) and abs(value) > _ENDLESS:
        return _LARGEST + 1
    return 1


def _guessed(schema: Mapping[str, Any]) -> str:
    """The type of a schema that names none."""
    hints = {
        "object": ("properties", "required", "additionalProperties"),
        "array": ("items", "prefixItems", "minItems"),
        "number": ("minimum", "maximum", "multipleOf", "exclusiveMinimum", "exclusiveMaximum"),
    }
    return next((kind for kind, names in hints.items() if any(name in schema for name in names)), "string")


def _is_null(schema: Any) -> bool:
    return isinstance(schema, Mapping) and schema.get("type") == "null"


def _whole(value: Any, otherwise: int) -> int:
    """A bound that is a number."""
    if isinstance(value, int) and not isinstance(value, bool):
        return max(0, min(value, _ENDLESS))
    number = _finite(value)
    return otherwise if number is None or number < 0 else int(min(number, _ENDLESS))


def _finite(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def _below(path: str, name: str) -> str:
    """A member's path; its name is the server's word, and may be long."""
    return f"{path}.{name[:64]}"
