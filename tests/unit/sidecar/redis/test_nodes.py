"""Where a node of a Redis Cluster sends whoever asks."""

from __future__ import annotations

import pytest

from mcpace_sidecar.redis.nodes import redirection

ASKED = ("10.0.0.1", 6379)


@pytest.mark.parametrize(
    ("words", "kind", "place"),
    [
        ("MOVED 3999 10.0.0.2:6380", "MOVED", ("10.0.0.2", 6380)),
        ("ASK 3999 10.0.0.2:6380", "ASK", ("10.0.0.2", 6380)),
        ("MOVED 3999 [2001:db8::2]:6380", "MOVED", ("2001:db8::2", 6380)),
        ("MOVED 3999 node-2.redis.svc:6380", "MOVED", ("node-2.redis.svc", 6380)),
        ("MOVED 3999 :6380", "MOVED", ("10.0.0.1", 6380)),
    ],
)
def test_a_redirection_names_a_node(words: str, kind: str, place: tuple[str, int]) -> None:
    assert redirection(words, ASKED) == (kind, place)


@pytest.mark.parametrize(
    "words", ["TRYAGAIN Multiple keys", "MOVED", "MOVED 3999", "MOVED 3999 10.0.0.2", "ERR MOVED 1 a:1", ""]
)
def test_what_names_no_node_is_no_redirection(words: str) -> None:
    assert redirection(words, ASKED) == ("", None)


def test_who_is_asked_must_be_known_where_the_node_names_no_host() -> None:
    assert redirection("MOVED 3999 :6380", None) == ("", None)
