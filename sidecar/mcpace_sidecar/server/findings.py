"""Rules of a configuration that do nothing, and what to write instead.

Pure: what the configuration says beside what the server says of itself. They are logged once the
server is ready, shown by `/stats` and `/config`, and counted by `mcpace_rules_without_effect`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Any, Final

from mcpace_sidecar.call.policies import NEXT_PAGE, PARALLEL
from mcpace_sidecar.call.settings import Settings
from mcpace_sidecar.contract.config.rate_limits import Limit
from mcpace_sidecar.contract.nearest import Vocabulary
from mcpace_sidecar.contract.report import Finding
from mcpace_sidecar.mcp.catalog import Catalog
from mcpace_sidecar.mcp.methods import LIMITED

log = logging.getLogger(__name__)

REASONS: Final = {
    "UnknownTool": "A rule names a tool that the server does not list.",
    "UnknownPrompt": "A limit names a prompt that the server does not list.",
    "UnknownArgument": "The key of a cached tool names an argument that the server does not list for it.",
    "ToolWrites": "A cached tool says of itself that it changes something: it is never cached.",
    "NobodyIsToldApart": "A tool is cached per client, and nothing tells clients apart.",
    "NothingToInvalidate": "A tool invalidates another that is not cached.",
    "EmptyLimit": "A limit sets neither requestsPerMinute nor a cost.",
    "LimitOutOfReach": "A limit per client lies above what every tier lets a client call.",
    "NobodyMayCall": "Anonymous callers are refused, and no credential is known.",
}
"""Every reason of a finding -> what it says."""

_CLOSELY: Final = 2
"""Vocabulary for which letters are compared: a server may list thousands."""


class Findings:
    """What was found, and what of it was said."""

    def __init__(
        self, settings: Callable[[], Settings], catalog: Catalog, told_apart: Callable[[str], bool]
    ) -> None:
        """`told_apart`: whether callers of a tool were, since the start."""
        self._settings = settings
        self._catalog = catalog
        self._told_apart = told_apart
        self._seen: tuple[Any, ...] = ()
        self._found: tuple[Finding, ...] = ()
        self._told: frozenset[Finding] = frozenset()

    def now(self) -> tuple[Finding, ...]:
        """As far as is known; looked for anew when what they depend on has changed."""
        settings, catalog = self._settings(), self._catalog
        cached = settings.config.cache.tools if settings.config.cache is not None else ()
        told_apart = tuple(tool.name for tool in cached if self._told_apart(tool.name))
        tools, locked = catalog.tools, catalog.locked
        arguments = tuple(catalog.arguments(tool.name) for tool in cached if tool.key is not None)
        seen = (settings, catalog.server, tools, len(tools), arguments, catalog.prompts, locked, told_apart)
        if seen != self._seen:
            self._seen, self._found = seen, find(settings, catalog, told_apart)
        return self._found

    def tell(self) -> None:
        """Log those that were not there before."""
        found = self.now()
        for finding in found:
            if finding not in self._told:
                log.warning("Without effect: %s", finding.message)
        self._told = frozenset(found)


def find(settings: Settings, catalog: Catalog, told_apart: Collection[str]) -> tuple[Finding, ...]:
    """All of them; `told_apart` are the tools whose callers were.

    Nothing is said of names while the server's lists are not known.
    """
    found = [*_nobody(settings), *_empty(settings), *_out_of_reach(settings), *_invalid(settings)]
    if catalog.server is not None:
        found += _writing(settings, catalog)
        if not catalog.locked:  # or else it may list more than was overheard
            found += _unknown(settings, catalog)
            found += _unknown_arguments(settings, catalog)
    if not catalog.locked:  # such a server's callers bring a credential of its own
        found += _shared_by_nobody(settings, told_apart)
    return tuple(found)


def _unknown(settings: Settings, catalog: Catalog) -> Iterator[Finding]:
    ours = [PARALLEL] if settings.parallel else []
    ours += [NEXT_PAGE, f"mcpace_{NEXT_PAGE}"] if settings.paging else []
    yield from _not_listed("UnknownTool", "tool", _tools(settings), [*catalog.tools, *ours])
    limits = settings.config.rate_limits
    if limits is not None and catalog.prompts is not None:
        named = ((f"rateLimits.prompts[{n}].name", prompt.name) for n, prompt in enumerate(limits.prompts))
        yield from _not_listed("UnknownPrompt", "prompt", named, sorted(catalog.prompts))


def _tools(settings: Settings) -> Iterator[tuple[str, str]]:
    """Every tool that is named -> where."""
    config = settings.config
    if config.rate_limits is not None:
        for number, limit in enumerate(config.rate_limits.tools):
            yield f"rateLimits.tools[{number}].name", limit.name
    if config.cache is not None:
        for number, tool in enumerate(config.cache.tools):
            yield f"cache.tools[{number}].name", tool.name
    if config.responses.page is not None:
        for number, paged in enumerate(config.responses.page.tools):
            yield f"responses.page.tools[{number}].name", paged.name


def _not_listed(
    reason: str, kind: str, named: Iterable[tuple[str, str]], known: Iterable[str]
) -> Iterator[Finding]:
    listed = frozenset(known)
    missing = [(path, name) for path, name in named if name not in listed]
    names = Vocabulary(known) if missing else Vocabulary(())
    words = f"no {kind} that the server lists" if listed else f"no {kind}: the server lists none"
    for number, (path, name) in enumerate(missing):
        meant = names.meant(name, closely=number < _CLOSELY)
        yield Finding(reason, f"{path}: '{name}' is {words}{meant}")


def _unknown_arguments(settings: Settings, catalog: Catalog) -> Iterator[Finding]:
    """To a key such an argument is always missing."""
    found = 0
    for number, tool in enumerate(settings.config.cache.tools if settings.config.cache else ()):
        known = catalog.arguments(tool.name) if tool.key is not None else None
        if tool.key is None or known is None or known.issuperset(tool.key.arguments):
            continue
        names = Vocabulary(sorted(filter(str.isprintable, known)))
        for other, name in enumerate(tool.key.arguments):
            if name not in known:
                meant = names.meant(name, closely=found < _CLOSELY)
                found += 1
                yield Finding(
                    "UnknownArgument",
                    f"cache.tools[{number}].key.arguments[{other}]: '{name}' is no argument of"
                    f" '{tool.name}'{meant}",
                )


def _writing(settings: Settings, catalog: Catalog) -> Iterator[Finding]:
    for path, name in _kept(settings):
        if catalog.forbids_caching(name):
            hint = "readOnlyHint: false" if _says_it_writes(catalog, name) else "destructiveHint: true"
            yield Finding(
                "ToolWrites",
                f"{path}: '{name}' says that it changes something ({hint}), so it is never cached;"
                " leave its ttl out, or mend the tool's annotations",
            )


def _says_it_writes(catalog: Catalog, name: str) -> bool:
    return catalog.tools[name].get("readOnlyHint") is False


def _kept(settings: Settings) -> Iterator[tuple[str, str]]:
    for number, tool in enumerate(settings.config.cache.tools if settings.config.cache else ()):
        if tool.ttl is not None:
            yield f"cache.tools[{number}]", tool.name


def _shared_by_nobody(settings: Settings, told_apart: Collection[str]) -> Iterator[Finding]:
    """Private results need something that tells users apart; most laptops have nothing."""
    if settings.keys.vary_on or _knows_credentials(settings) or settings.config.cache is None:
        return
    for number, tool in enumerate(settings.config.cache.tools):
        if tool.ttl is not None and tool.scope == "client" and tool.name not in told_apart:
            yield Finding(
                "NobodyIsToldApart",
                f"cache.tools[{number}]: '{tool.name}' is cached per client, but only for callers that"
                " bring an Authorization or Cookie, because nothing else tells them apart; write"
                " `scope: shared` if its results are the same for all, or write clients.apiKeys",
            )


def _knows_credentials(settings: Settings) -> bool:
    """Whether some caller can bring a credential of ours."""
    clients = settings.config.clients
    keys = len(clients.api_keys) > len(settings.missing_secrets)
    return keys or clients.jwt is not None or clients.trusted_headers is not None


def _nobody(settings: Settings) -> Iterator[Finding]:
    if settings.config.clients.anonymous == "deny" and not _knows_credentials(settings):
        missing = ", ".join(settings.missing_secrets)
        why = (
            f"the Secret {missing} is not there" if missing else "no apiKeys, jwt or trustedHeaders are set"
        )
        yield Finding("NobodyMayCall", f"clients.anonymous: deny refuses every caller, because {why}")


def _empty(settings: Settings) -> Iterator[Finding]:
    for path, rule in _limits(settings):
        if rule.requests_per_minute is None and rule.cost == 1:
            yield Finding(
                "EmptyLimit",
                f"{path}: '{rule.name}' has no limit of its own;"
                " write its requestsPerMinute, or a cost above 1",
            )


def _out_of_reach(settings: Settings) -> Iterator[Finding]:
    """One that all share is none of these: clients are many."""
    limits = settings.config.rate_limits
    if limits is None:
        return
    largest = max(limits.tiers, key=lambda tier: tier.requests_per_minute)
    for path, rule in _limits(settings):
        asked, most = rule.requests_per_minute, largest.requests_per_minute
        if asked is not None and rule.per == "client" and asked * rule.cost > most:
            price = f" at a cost of {rule.cost}" if rule.cost > 1 else ""
            unwritten = "" if "tiers" in limits.model_fields_set else " (rateLimits.tiers is not written)"
            yield Finding(
                "LimitOutOfReach",
                f"{path}: '{rule.name}' may be called {asked} times a minute{price}, but no tier lets a"
                f" client: the largest, {largest.name}, has {most}{unwritten};"
                f" write at most {most // rule.cost}, or more for a tier",
            )


def _limits(settings: Settings) -> Iterator[tuple[str, Limit]]:
    """Where each is -> every limit of a tool, a prompt or a resource."""
    limits = settings.config.rate_limits
    if limits is None:
        return
    for kind in LIMITED.values():
        for number, rule in enumerate(limits.of(kind)):
            yield f"rateLimits.{kind}s[{number}]", rule


def _invalid(settings: Settings) -> Iterator[Finding]:
    cache = settings.config.cache
    kept = [name for _, name in _kept(settings)]
    for number, tool in enumerate(cache.tools if cache is not None else ()):
        for other, name in enumerate(tool.invalidates):
            if name not in kept:
                yield Finding(
                    "NothingToInvalidate",
                    f"cache.tools[{number}].invalidates[{other}]: nothing of '{name}' is kept;"
                    f" give it a ttl in cache.tools, or leave it out{Vocabulary(kept).meant(name)}",
                )
