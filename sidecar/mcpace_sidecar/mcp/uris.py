"""How servers may read the URI of a resource: as it is written, as their SDK does, or decoded. Pure.

The TypeScript SDK hands every URI through `new URL()`, which lowers the scheme, drops blanks around it,
tabs and line ends in it, default ports and dot segments. Version 1 of the Python SDK hands it through
pydantic's AnyUrl, which does that too, and drops empty segments at the beginning of a `file:` path. Others
compare what was written, or decode it.
Source: WHATWG URL, sections 4.4 (parsing) and 4.5 (serialising); pydantic, Url.
"""

from __future__ import annotations

from urllib.parse import unquote

import ada_url
from pydantic_core import Url


def normal(uri: str) -> str:
    """The URI as WHATWG's URL writes it; as it is where that is none to it."""
    try:
        return str(ada_url.normalize_url(uri))
    except ValueError:
        return uri


def of_pydantic(uri: str) -> str:
    """The URI as pydantic's AnyUrl writes it; as it is where that is none to it."""
    try:
        return str(Url(uri))
    except ValueError:
        return uri


def readings(uri: str) -> tuple[str, ...]:
    """Everything that a server may take the URI for, as it is written first."""
    plain, other = normal(uri), of_pydantic(uri)
    return tuple(dict.fromkeys((uri, plain, unquote(plain), other, unquote(other))))
