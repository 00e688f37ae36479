"""When an embedded store is looked at for who fills it."""

import pytest

from mcpace_operator.stores.shares import is_filling


@pytest.mark.parametrize(
    ("told", "filling"),
    [
        ({}, False),
        ({"maxmemory": 100, "used_memory": 60}, False),
        ({"maxmemory": 100, "used_memory": 61}, True),
        ({"maxmemory": 0, "used_memory": 10**9}, False),
        ({"maxclients": 100, "connected_clients": 61}, True),
        ({"maxclients": 100, "connected_clients": 60}, False),
        ({"maxmemory": 100, "used_memory": 1, "maxclients": 100, "connected_clients": 99}, True),
        ({"maxmemory": 100}, False),
    ],
)
def test_a_store_is_filling_from_six_tenths_of_its_memory_or_of_its_connections(told, filling):
    assert is_filling(told) == filling
