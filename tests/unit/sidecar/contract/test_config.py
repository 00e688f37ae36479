"""The configuration: what is wrong is said in words that say what to write."""

import ipaddress

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mcpace_sidecar.call.settings import Settings
from mcpace_sidecar.contract.config import SidecarConfig, parse
from mcpace_sidecar.contract.quantity import seconds, size
from mcpace_sidecar.errors import ConfigError


@pytest.mark.parametrize(
    ("document", "words"),
    [
        (
            {"rateLimits": {"tiers": [{"name": "free", "requestsPerMinute": -1}]}},
            r"rateLimits.tiers\[0\].requestsPerMinute: write 1 or more",
        ),
        (
            {
                "rateLimits": {
                    "tiers": [{"name": "a", "requestsPerMinute": 1}, {"name": "a", "requestsPerMinute": 2}]
                }
            },
            "the name 'a' stands twice",
        ),
        ({"rateLimits": {"defaultTier": "gold"}}, "must be the name of one of the tiers"),
        ({"cache": {"tools": [{"name": "t", "ttl": "5 minutes"}]}}, "write a duration such as"),
        ({"cache": {"maxBytes": "64 MB"}}, "write a size in bytes such as"),
        ({"rateLimits": {"tools": [{"name": "t", "cost": 11}]}}, "it could never be called"),
        (
            {
                "rateLimits": {
                    "tiers": [{"name": "a", "requestsPerMinute": 10, "requestsPerDay": 3}],
                    "tools": [{"name": "t", "cost": 5}],
                }
            },
            "write at most 3, which tier a has",
        ),
        (
            {"clients": {"apiKeys": [{"tier": "gold", "secretRef": {"name": "s"}}]}},
            "the tier of apiKeys must be",
        ),
        ({"path": "mcp"}, "path: write a path that begins with '/', such as /mcp"),
        ({"path": 5}, 'path: write text, in quotes: "5"'),
        ({"maxRequestBytes": True}, "write a size in bytes such as"),
        ({"rateLimits": {"countCacheHits": "yes"}}, "countCacheHits: write true or false, without quotes"),
        (
            {"rateLimits": {"reply": "http_429"}},
            "write jsonrpc, http429 or toolError; did you mean http429",
        ),
        ({"cache": []}, "cache: write fields below it, not a list"),
        ({"cache": {"tools": {}}}, "cache.tools: write a list: lines below it that begin with '-'"),
        ({"passPaths": ["/x"] * 33}, "passPaths: write at most 32 of them"),
        ({"rateLimits": {"tiers": []}}, "rateLimits.tiers: must not be empty"),
        (
            {"clients": {"trustedProxies": ["10.0.0.0/8", "1:2:3:4:5:6:7:8:9"]}},
            r"clients.trustedProxies\[1\]: write a network, such as 10.1.0.0/16, or one address",
        ),
        (
            {"rateLimits": {"tools": [{"name": "t"}, {"name": "u", "cost": 20}]}},
            r"rateLimits.tools\[1\].cost: .*; write at most 10, which tier free has",
        ),
        (
            {"clients": {"apiKeys": [{"tier": "Pro!", "secretRef": {"name": "s"}}]}},
            r"^clients.apiKeys\[0\].tier: write lower-case letters, digits and '-', such as team-a$",
        ),
        (
            {"clients": {"apiKeys": [{"tier": "pr0", "secretRef": {"name": "s"}}]}},
            r"^clients.apiKeys\[0\].tier: .*: free, pro, enterprise; did you mean pro\?$",
        ),
        (
            {"rateLimits": {"tiers": [{"name": "a", "requestsPerMinute": 0}]}},
            r"^rateLimits.tiers\[0\].requestsPerMinute: write 1 or more$",
        ),
    ],
)
def test_a_wrong_configuration_is_refused_in_words(document, words) -> None:
    with pytest.raises(ConfigError, match=words):
        parse(SidecarConfig, document)


PIECES = st.sampled_from(["", "0", "a", "FFFF", "10.0.0.1", "300.1.1.1", "12345", "::", ":"])


@given(st.lists(PIECES, min_size=1, max_size=9), st.sampled_from(["", "/0", "/32", "/33", "/128", "/129"]))
@example(["1::2"], "/64")
@example(["::ffff:10.0.0.1"], "")
def test_a_network_is_what_the_standard_library_reads(pieces, length) -> None:
    text = ":".join(pieces) + length
    try:
        ipaddress.ip_network(text, strict=False)
    except ValueError:
        with pytest.raises(ConfigError, match="write a network"):
            parse(SidecarConfig, {"clients": {"trustedProxies": [text]}})
    else:
        parse(SidecarConfig, {"clients": {"trustedProxies": [text]}})


@pytest.mark.parametrize(
    ("document", "words"),
    [
        (
            {"egress": [{"name": n, "url": "https://a.example", "port": 9101} for n in ("a", "b")]},
            r"egress\[1\].port: write each port of egress once: 9101 stands twice",
        ),
        ({"cache": {"tools": [{"name": "t", "invalidates": []}]}}, "write a ttl, invalidates, or both"),
    ],
)
def test_what_the_api_server_refuses_too_is_refused(document, words) -> None:
    with pytest.raises(ConfigError, match=words):
        parse(SidecarConfig, document)


def test_fields_of_a_newer_version_are_ignored_and_named() -> None:
    config, ignored = parse(SidecarConfig, {"futureBlock": {"a": 1}, "cache": {"tools": [], "newKnob": 3}})
    assert set(ignored) == {"futureBlock", "cache.newKnob"}
    assert config.cache is not None


def test_a_bare_configuration_limits_and_caches_nothing() -> None:
    config, _ = parse(SidecarConfig, {})
    assert (config.rate_limits, config.cache) == (None, None)


def test_idle_times_outlive_common_balancers_and_undercut_common_servers() -> None:
    config, _ = parse(SidecarConfig, {})
    assert seconds(config.clients.idle_timeout) > 600, "Google's keep theirs for so long, all others less"
    assert 0 < seconds(config.upstream.idle_timeout) < 5, "uvicorn and Node.js close after five seconds"
    assert 0 < seconds(config.responses.heartbeat) < 60, "nginx and AWS cut what is silent for a minute"


def test_a_bare_configuration_gives_up_no_slow_server_and_bounds_no_busy_one() -> None:
    config, _ = parse(SidecarConfig, {})
    assert seconds(config.upstream.timeout) == 300
    assert config.upstream.max_connections >= 1024
    assert config.concurrency is None
    door = {"name": "api", "url": "https://api.example", "port": 1}
    config, _ = parse(SidecarConfig, {"egress": [door]})
    assert seconds(config.egress[0].timeout) == 30


def test_the_first_tier_is_the_default() -> None:
    config, _ = parse(SidecarConfig, {"rateLimits": {"tiers": [{"name": "gold", "requestsPerMinute": 5}]}})
    settings = Settings(config)
    assert settings.limits is not None
    assert settings.limits.default_tier == "gold"


def test_durations_and_sizes_are_read_as_written() -> None:
    assert [seconds(d) for d in ("500ms", "30s", "5m", "1h", "1d")] == [0.5, 30, 300, 3600, 86400]
    assert [size(q) for q in (65536, "64Ki", "4Mi", "1Gi")] == [65536, 65536, 4 << 20, 1 << 30]


def test_one_key_for_two_clients_is_refused_and_no_key_is_shown(tmp_path) -> None:
    for secret, client in (("a", "anna"), ("b", "bert")):
        (tmp_path / secret).mkdir()
        (tmp_path / secret / client).write_text("same-key")
    keys = [{"tier": "pro", "secretRef": {"name": "a"}}, {"tier": "free", "secretRef": {"name": "b"}}]
    config, _ = parse(SidecarConfig, {"clients": {"apiKeys": keys}})
    with pytest.raises(ConfigError, match="hold the same key") as refused:
        Settings(config, (), tmp_path)
    assert "same-key" not in str(refused.value)
