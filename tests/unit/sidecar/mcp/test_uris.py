"""What servers may take a resource's URI for."""

from __future__ import annotations

import pytest

from mcpace_sidecar.mcp.uris import readings


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("file:///a", {"file:///a"}),
        ("FILE:///a", {"FILE:///a", "file:///a"}),
        ("file:///b/../a", {"file:///b/../a", "file:///a"}),
        ("file:///%61", {"file:///%61", "file:///a"}),
        ("http://h:80/a", {"http://h:80/a", "http://h/a"}),
        (" file:///a\t", {" file:///a\t", "file:///a"}),
        ("no uri", {"no uri"}),
        ("file:////a", {"file:////a", "file:///a"}),
    ],
)
def test_every_way_to_read_it_is_known_and_as_it_is_written_comes_first(
    written: str, read: set[str]
) -> None:
    assert readings(written)[0] == written
    assert set(readings(written)) == read
