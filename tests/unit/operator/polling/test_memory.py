"""What metrics-server says of pods, as the operator reads it."""

import pytest

from mcpace_operator.polling.memory import read


def metrics(used, name="server"):
    return {
        "metadata": {"namespace": "ns", "name": "a"},
        "containers": [{"name": name, "usage": {"memory": used}}],
    }


def test_what_the_servers_container_uses_is_read_and_no_other():
    assert read(metrics("5Mi")) == {"ns/a": 5 << 20}
    assert read(metrics("5Mi", name="mcpace")) == {}
    assert read({"metadata": {"namespace": "ns", "name": "a"}}) == {}


@pytest.mark.parametrize(
    "body",
    [
        metrics("much"), metrics(""), metrics("NaN"), metrics("Infinity"), metrics(5), metrics(None), {},
        {"metadata": None}, {"metadata": {"namespace": "ns", "name": "a"}, "containers": [{"name": "server"}]},
    ],
    ids=str,
)  # fmt: skip
def test_what_cannot_be_read_says_nothing_and_stops_nobody(body):
    assert read(body) == {}
