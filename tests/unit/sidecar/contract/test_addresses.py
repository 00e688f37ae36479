"""Addresses of Redis: what a URL may say, and what a wrong one is told."""

from __future__ import annotations

import pytest

from mcpace_sidecar.contract.addresses import RedisAddress
from mcpace_sidecar.errors import ConfigError


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("http://:secret@host/0", "must specify one of the following schemes"),
        ("redis+sentinel://:secret@host:26379", "the master's name is missing"),
        ("redis+sentinel://:secret@host:26379,/main", "a Sentinel's host is missing"),
        ("redis://:secret@host:99999/0", "Port out of range"),
        ("redis://:secret@sentinel:26379/main/0", "'main/0' is no number of a database"),
        (
            "redis://:secret@host/0?sentinel_password=secret",
            "'sentinel_password' means nothing with redis://",
        ),
        ("redis://:secret@host/0?ssl_cert_reqs=none", "'ssl_cert_reqs' means nothing with redis://"),
        ("rediss+sentinel://:secret@host/main/0?socket_timeout=5", "'socket_timeout' means nothing"),
    ],
)
def test_a_wrong_url_says_what_to_write_and_not_the_password(url: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words) as refused:
        RedisAddress(url)
    assert "redis+sentinel://user:password@host:26379/NAME/0" in str(refused.value)
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    "url",
    [
        "redis://host",
        "redis://user:p%40ss@host:6379/3",
        "redis://host?db=2",
        "rediss://host/0?ssl_cert_reqs=none&ssl_ca_certs=/ca.pem",
        "rediss+sentinel://host/main/1?sentinel_username=u&sentinel_password=p&ssl_cert_reqs=none",
        "rediss+cluster://one,two:7000?ssl_certfile=/cert.pem&ssl_keyfile=/key.pem",
        "unix:///run/redis.sock?db=1&password=p",
    ],
)
def test_what_a_url_may_say_is_taken(url: str) -> None:
    RedisAddress(url)


def test_certificates_that_are_none_are_said_so() -> None:
    with pytest.raises(ConfigError, match="are not usable PEM"):
        _ = RedisAddress("rediss://host", "no certificate").tls


def test_the_ports_to_reach_are_the_sentinels_and_the_usual_one() -> None:
    assert RedisAddress("redis+sentinel://one,two:1/main").ports == {26379, 1, 6379}
    assert RedisAddress("redis://host:7000/1").ports == {7000}


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("redis+cluster://:secret@one:6379,/", "a node's host is missing"),
        ("redis+cluster://:secret@one:6379/3", "a Redis Cluster has no database but 0"),
    ],
)
def test_a_wrong_url_of_a_cluster_says_what_to_write_and_not_the_password(url: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words) as refused:
        RedisAddress(url)
    assert "redis+cluster://user:password@host:6379" in str(refused.value)
    assert "secret" not in str(refused.value)
