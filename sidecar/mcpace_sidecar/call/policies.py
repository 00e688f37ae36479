"""What a configuration says of one kind of call: its price, its cache rule, its pages."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from mcpace_sidecar.cache.policy import CacheRule, of_list, of_tool, tool_tag
from mcpace_sidecar.contract.config import SidecarConfig
from mcpace_sidecar.contract.config.traffic import PagedTool
from mcpace_sidecar.contract.quantity import size
from mcpace_sidecar.limits.plan import Price
from mcpace_sidecar.mcp.methods import HINTED, LIMITED, RESOURCES_READ, TOOLS_CALL
from mcpace_sidecar.mcp.request import Message
from mcpace_sidecar.mcp.responses import INVALID_PARAMS
from mcpace_sidecar.mcp.strictness import MessageError

PARALLEL: Final = "parallel"
NEXT_PAGE: Final = "next_page"
"""The tools that the sidecar itself offers, where the configuration asks for them."""


class PageRule:
    """When a tool's result is given in pages: more items, or more bytes, than this."""

    __slots__ = ("items", "max_bytes")

    def __init__(self, tool: PagedTool) -> None:
        self.items = tool.items
        self.max_bytes = size(tool.bytes) if tool.bytes is not None else None


class Policy:
    """What is done about the calls of one tool, prompt or resource, or of another method."""

    __slots__ = ("cache", "invalidates", "page", "price")

    def __init__(
        self,
        price: Price | None = None,
        cache: CacheRule | None = None,
        invalidates: tuple[bytes, ...] = (),
        page: PageRule | None = None,
    ) -> None:
        self.price = price
        self.cache = cache
        self.invalidates = invalidates
        """The tags of what such a call makes old."""
        self.page = page


class Policies:
    """The policy of every call under one configuration."""

    def __init__(self, config: SidecarConfig) -> None:
        limits, cache, paging = config.rate_limits, config.cache, config.responses.page
        self._plain = Policy()
        priced = {
            method: {limit.name: Price(kind, limit) for limit in (limits.of(kind) if limits else ())}
            for method, kind in LIMITED.items()
        }
        self.prices = [price for named in priced.values() for price in named.values()]
        """All of them."""
        prices = priced[TOOLS_CALL]
        cached = {tool.name: tool for tool in cache.tools} if cache else {}
        paged = {tool.name: PageRule(tool) for tool in paging.tools} if paging else {}
        self.tools: dict[str, Policy] = {}
        """The tools that the configuration names."""
        for name in {*prices, *cached, *paged}:
            tool = cached.get(name)
            self.tools[name] = Policy(
                prices.get(name),
                of_tool(tool) if tool is not None else None,
                tuple(tool_tag(other) for other in tool.invalidates) if tool is not None else (),
                paged.get(name),
            )
        self.paged = frozenset(paged)
        self._named = {
            method: {name: Policy(price) for name, price in prices.items()}
            for method, prices in priced.items()
        }
        """By method, the policies of what it names."""
        self._named[TOOLS_CALL] = self.tools
        del self._named[RESOURCES_READ]  # whose names are patterns
        lists = cache.lists if cache is not None else None
        self._methods = {method: Policy(cache=of_list(method, lists)) for method in HINTED}
        read = self._methods[RESOURCES_READ]
        resources = limits.resources if limits is not None else ()
        patterns = sorted(resources, key=lambda r: (r.name.endswith("*"), -len(r.name)))
        self._resources: list[tuple[str, Policy]] = []
        self._readings: Callable[[str], tuple[str, ...]] = lambda uri: (uri,)
        if patterns:
            # Imported here because the parser is held in memory only where resources have limits.
            from mcpace_sidecar.mcp.uris import normal, of_pydantic, readings  # noqa: PLC0415 - because of that

            self._readings = readings
            for resource in patterns:
                policy = Policy(priced[RESOURCES_READ][resource.name], read.cache)
                begins = resource.name.removesuffix("*")
                star = resource.name[len(begins) :]
                for name in dict.fromkeys(
                    (resource.name, normal(begins) + star, of_pydantic(begins) + star)
                ):
                    self._resources.append((name, policy))

    def of(self, message: Message) -> Policy:
        """What is done about a message.

        MessageError where it depends on who reads its URI.
        """
        method, target = message.method, message.target
        named = self._named.get(method or "")
        if named is not None:
            return named.get(target or "", self._plain)
        if method == RESOURCES_READ and self._resources:
            written, *others = self._readings(target or "")
            policy = self._of_resource(written)
            for other in others:
                if self._of_resource(other) is not policy:
                    words = (
                        f"Servers may read this as {other[:200]!r}, which has other limits: write it so."
                    )
                    raise MessageError(INVALID_PARAMS, words, message.id or b"null")
            return policy
        return self._methods.get(method or "", self._plain)

    def _of_resource(self, uri: str) -> Policy:
        for name, policy in self._resources:
            if uri == name or (name.endswith("*") and uri.startswith(name[:-1])):
                return policy
        return self._methods[RESOURCES_READ]
