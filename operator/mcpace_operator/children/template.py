"""`podTemplate` merged over the generated pod. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

KEYS: Final = {
    "containers": "name",
    "initContainers": "name",
    "volumes": "name",
    "env": "name",
    "ports": "name",
    "volumeMounts": "mountPath",
    "imagePullSecrets": "name",
}
"""Lists whose items are merged, and by what; every other list replaces."""
_WHOLE: Final = ("env", "volumes")
"""Of these, an item replaces the one of its name whole: each may be only one of many kinds."""


def merged(generated: Any, written: Any, name: str = "") -> Any:
    """`written` over `generated`. Nothing is ever removed: null, and a part left out, say nothing."""
    if written is None:
        return generated
    if isinstance(generated, Mapping) and isinstance(written, Mapping):
        result = dict(generated)
        for key, value in written.items():
            if value is not None:
                result[key] = merged(generated.get(key), value, key)
        return result
    key = KEYS.get(name)
    if key is not None and isinstance(generated, list) and isinstance(written, list):
        return _merged_items(generated, written, key, whole=name in _WHOLE)
    return written


def _merged_items(generated: list[Any], written: list[Any], key: str, *, whole: bool) -> list[Any]:
    result = list(generated)
    places = {item[key]: number for number, item in enumerate(generated) if key in item}
    for item in written:
        name = item.get(key) if isinstance(item, Mapping) else None
        place = places.get(name) if isinstance(name, str | int) else None
        if place is None:
            result.append(item)
        else:
            result[place] = item if whole else merged(result[place], item)
    return result
