"""What each server holds of an embedded store of limits, so that none fills it for the others.

Redis bounds what all users hold together, and no user's part. So when a store is filling, its keys are
weighed: every key begins with its server's name.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import Any, Final

from mcpace_operator.stores.nodes import TIMEOUT, Node
from mcpace_sidecar.contract.addresses import within

FULL: Final = 0.6
"""The part of a store's memory, or of its connections, from which on it is looked who has them."""
SHARE: Final = 0.25
"""The part of it that one server may have then."""
_LOOKED_AT: Final = 1000
_OF: Final = re.compile(r"mcpace:\{([^}]*)\}:")
"""The beginning of a server's keys."""


def is_filling(told: dict[str, Any]) -> bool:
    """Whether a Redis that says this of itself is soon full, of keys or of connections."""
    memory, clients = told.get("maxmemory", 0), told.get("maxclients", 0)
    return bool(
        (memory and told.get("used_memory", 0) > FULL * memory)
        or (clients and told.get("connected_clients", 0) > FULL * clients)
    )


async def greedy(node: Node) -> set[str]:
    """The users that have more than their share; RedisError, OSError, TimeoutError."""
    memory, clients = node.told.get("maxmemory", 0), node.told.get("maxclients", 0)
    found = set()
    if memory and node.told.get("used_memory", 0) > FULL * memory:
        held = await _held(node)
        found |= {user for user, size in held.items() if size > SHARE * memory}
    if clients and node.told.get("connected_clients", 0) > FULL * clients:
        lines = await node.ask("CLIENT LIST")
        connected = Counter(each["user"] for each in lines)
        found |= {u for u, n in connected.items() if n > SHARE * clients and u.startswith("mcpace:")}
    return found


async def cut_off(node: Node, user: str) -> None:
    """End what it does, and take what it holds; RedisError, OSError, TimeoutError."""
    await node.ask("ACL SETUSER", user, "off")
    await node.ask("CLIENT KILL", "USER", user)
    prefix = f"mcpace:{{{user.removeprefix('mcpace:')}}}:"
    async for keys in _keys(node, f"{_escaped(prefix)}*"):
        await node.ask("UNLINK", *keys)


async def _held(node: Node) -> Counter[str]:
    """User -> bytes of the keys that begin with its server's name."""
    held: Counter[str] = Counter()
    async for keys in _keys(node, "mcpace:*"):
        pipeline = node.client.pipeline(transaction=False)
        for key in keys:
            pipeline.memory_usage(key)
        sizes = await within(2 * TIMEOUT, pipeline.execute())
        for key, size in zip(keys, sizes, strict=True):
            if found := _OF.match(key):
                held[f"mcpace:{found[1]}"] += size or 0
    return held


async def _keys(node: Node, pattern: str) -> Any:
    cursor = 0
    while True:
        cursor, keys = await within(2 * TIMEOUT, node.client.scan(cursor, match=pattern, count=_LOOKED_AT))
        if keys:
            yield keys
        if not cursor:
            return


def _escaped(text: str) -> str:
    return re.sub(r"([*?\[\]\\])", r"\\\1", text)
