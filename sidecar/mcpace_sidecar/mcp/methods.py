"""MCP's methods, as far as any is treated otherwise than the rest: one row each, and what follows from it.

Source: MCP 2026-07-28, and the versions before.
"""

from __future__ import annotations

from typing import Final, NamedTuple

MODERN: Final = b"2026-07-28"
"""The first version without a handshake."""

CANCELLED: Final = "notifications/cancelled"
INITIALIZE: Final = "initialize"
TOOLS_CALL: Final = "tools/call"
TOOLS_LIST: Final = "tools/list"
PROMPTS_GET: Final = "prompts/get"
RESOURCES_READ: Final = "resources/read"


class Method(NamedTuple):
    """What is known of one method."""

    target: str = ""
    """The parameter that names what is called, where limits count it."""
    limited: str = ""
    """What limits call that, such as `tool`; in the plural, the list of `rateLimits` that it stands in."""
    uses: str = ""
    """What a refusal calls the calls of it."""
    safe: bool = False
    """Whether it may be sent twice."""
    lists: str = ""
    """What `notifications/.../list_changed` calls the list that it asks for."""
    hinted: bool = False
    """Whether its result says itself how long it may be kept."""
    endless: bool = False
    """Whether its answer is a stream that ends only with its client."""
    survivable: bool = True
    """Whether a client takes an error in its place for one, and for no verdict on the server."""


METHODS: Final = {
    INITIALIZE: Method(safe=True, survivable=False),
    "server/discover": Method(safe=True, hinted=True, survivable=False),
    "ping": Method(safe=True),
    TOOLS_CALL: Method(target="name", limited="tool", uses="calls"),
    TOOLS_LIST: Method(safe=True, lists="tools", hinted=True),
    PROMPTS_GET: Method(target="name", limited="prompt", uses="uses", safe=True),
    "prompts/list": Method(safe=True, lists="prompts", hinted=True),
    RESOURCES_READ: Method(target="uri", limited="resource", uses="reads", safe=True, hinted=True),
    "resources/list": Method(safe=True, lists="resources", hinted=True),
    "resources/templates/list": Method(safe=True, lists="resources", hinted=True),
    "completion/complete": Method(safe=True),
    "subscriptions/listen": Method(endless=True),
}

COUNTED: Final = {name: method.target for name, method in METHODS.items() if method.target}
LIMITED: Final = {name: method.limited for name, method in METHODS.items() if method.target}
SAFE: Final = frozenset(name for name, method in METHODS.items() if method.safe)
LISTS: Final = {name: method.lists for name, method in METHODS.items() if method.lists}
HINTED: Final = frozenset(name for name, method in METHODS.items() if method.hinted)
ENDLESS: Final = frozenset(name for name, method in METHODS.items() if method.endless)
TOLD: Final = frozenset({"logging/setLevel", "resources/subscribe", "resources/unsubscribe"})
"""What a session's server is told, and must know as long as the session goes on."""
OF_SESSIONS: Final = TOLD | {INITIALIZE}
"""What is answered of a session itself."""
UNSURVIVABLE: Final = frozenset(name for name, method in METHODS.items() if not method.survivable)
