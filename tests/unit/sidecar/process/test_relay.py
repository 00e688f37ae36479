"""Where other replicas reach a sidecar, of what it listens on."""

import socket

import pytest

from mcpace_sidecar.errors import ConfigError
from mcpace_sidecar.http.address import Address
from mcpace_sidecar.process.relay import own_address


def test_an_address_is_taken_as_it_is() -> None:
    for host in ("10.1.2.3", "127.0.0.2", "fd00::7"):
        assert own_address(Address(host, 18081)) == Address(host, 18081)


@pytest.mark.parametrize(
    ("listens", "name"), [("*", "10.1.2.3"), ("*", "fd00::7"), ("0.0.0.0", "10.1.2.3"), ("::", "fd00::7")]
)
def test_who_listens_everywhere_is_reached_by_the_hosts_own_address(
    listens: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: name)
    assert own_address(Address(listens, 18081)) == Address(name, 18081)


@pytest.mark.parametrize(
    ("listens", "name", "words"),
    [
        ("0.0.0.0", "127.0.1.1", "leads to itself alone"),
        ("*", "::1", "leads to itself alone"),
        ("::", "fe80::1", "leads to itself alone"),
        ("*", "0.0.0.0", "leads to itself alone"),
        ("0.0.0.0", "nowhere.invalid", "is not known"),
    ],
)
def test_a_host_whose_name_leads_nowhere_is_told_what_to_write(
    listens: str, name: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: name)
    with pytest.raises(ConfigError, match=words) as refused:
        own_address(Address(listens, 18081))
    assert "--relay-listen" in str(refused.value)
    assert str(refused.value).endswith("as 10.0.0.7:18081")


def test_a_name_is_no_address() -> None:
    with pytest.raises(ConfigError, match="write an address, or \\*"):
        own_address(Address("weather.svc", 18081))
