"""Where a call's result may be kept, and what becomes of a result that the server has given."""

from __future__ import annotations

from mcpace_sidecar.cache.entry import Place
from mcpace_sidecar.cache.lookup import Lookup
from mcpace_sidecar.cache.policy import CacheRule, life
from mcpace_sidecar.call import own_tools, pages
from mcpace_sidecar.call.call import Call
from mcpace_sidecar.call.plane import Plane
from mcpace_sidecar.call.policies import Policy
from mcpace_sidecar.http import sse
from mcpace_sidecar.mcp import answers, responses
from mcpace_sidecar.mcp.answers import Outcome
from mcpace_sidecar.mcp.methods import OF_SESSIONS, TOOLS_CALL, TOOLS_LIST
from mcpace_sidecar.mcp.request import Message


def places(plane: Plane, call: Call, message: Message, rule: CacheRule) -> tuple[Place, ...]:
    """Where the result of a call with this rule may be kept; none: it is not looked up."""
    session = call.context.heard_as
    if session and session not in plane.sessions:
        _bypass(plane, call, rule, "session")  # a hit would hide from the client that its session has ended
        return ()
    if rule.hinted:
        if rule.ttl == 0 and message.method not in plane.hinting:
            return ()  # the server has not said that this may be kept
    elif plane.catalog.forbids_caching(message.target or ""):
        _bypass(plane, call, rule, "writes")
        return ()
    private = call.private
    if private is None and not rule.shared:
        _bypass(plane, call, rule, "anonymous")
    return call.context.settings.keys.places(rule, call.variant, message, private)


def _bypass(plane: Plane, call: Call, rule: CacheRule, reason: str) -> None:
    """Count a call of a cached tool that is not looked up."""
    if not rule.hinted:
        plane.metrics.count("mcpace_cache_bypassed", call.label, reason)


def is_read(plane: Plane, call: Call) -> bool:
    """Whether a call's result is wanted: to be kept, for its session, or to be given in another shape."""
    message, policy = call.message, call.policy
    if message is None:
        return False
    # Without a policy it is relayed: the sidecar where it came in keeps it, and gives it its shape.
    shaped = policy is not None and plane.offers and not call.refreshing and _is_shaped(message, policy)
    if shaped or (policy is not None and policy.cache is not None):
        return True
    return call.context.settings.continues and message.method in OF_SESSIONS


def _is_shaped(message: Message, policy: Policy) -> bool:
    return message.method == TOOLS_LIST or (policy.page is not None and message.method == TOOLS_CALL)


def shaped(plane: Plane, call: Call, result: bytes) -> bytes | None:
    """What is answered instead of a result: its first page, a list with our own tools; None: itself."""
    message, policy = call.message, call.policy
    if call.refreshing or message is None or policy is None:
        return None
    return _shape(plane, call, message, policy, result)


def resumed(plane: Plane, call: Call, outcome: Outcome) -> bytes | None:
    """The same, of the result that ends the stream of which a call has asked for the rest."""
    message = call.answers
    if message is None or not outcome.complete:
        return None
    return _shape(plane, call, message, call.context.settings.policies.of(message), outcome.result)


def resumed_event(plane: Plane, call: Call, event: bytes, data: bytes, outcome: Outcome) -> bytes:
    """The event that brings it. `data`: its data."""
    result = resumed(plane, call, outcome)
    if result is None:
        return event
    return sse.with_data(event, responses.result_body(answers.id_of(data), result))


def _shape(plane: Plane, call: Call, message: Message, policy: Policy, result: bytes) -> bytes | None:
    if not plane.offers or not _is_shaped(message, policy):
        return None
    if policy.page is not None:
        return pages.paged(call, plane, policy.page, result)
    return own_tools.listed(plane, result)


def keep(plane: Plane, call: Call, outcome: Outcome, lookup: Lookup | None, rounds: int) -> None:
    """Keep a result as its rule says. `rounds`: how often the server had asked before the call went on."""
    message, policy = call.message, call.policy
    if not outcome.complete:
        if outcome.state and call.context.settings.limits is not None:
            plane.conversations.asked(call.conversation(outcome.state), rounds)
        return
    assert message is not None
    assert policy is not None
    if message.method == TOOLS_LIST:
        plane.catalog.overhear(outcome.result)
    rule = policy.cache
    if rule is not None:
        ttl, shareable = life(rule, outcome.result)
        if rule.hinted:
            plane.learn_hint(message, ttl)
        if lookup is not None:
            lookup.keep(outcome.result, ttl, shareable=shareable)
