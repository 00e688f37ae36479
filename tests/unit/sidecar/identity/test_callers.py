"""Who is calling: by key, by whom a gateway names, by the nearest address that is believed."""

import hashlib
import ipaddress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcpace_sidecar.contract.config.clients import Clients
from mcpace_sidecar.errors import ConfigError
from mcpace_sidecar.identity.callers import (
    LONGEST_NAME,
    Client,
    Identities,
    Via,
    address_of,
    bearer_of,
    network,
    read_keys,
)

KEYS = Clients.model_validate(
    {"apiKeys": [{"tier": "pro", "secretRef": {"name": "s"}}], "apiKeyHeader": "X-API-Key"}
)
BEHIND = Clients.model_validate(
    {"trustedProxies": ["10.0.0.0/8"], "trustedHeaders": {"client": "X-Consumer", "tier": "X-Plan"}}
)
ADDRESSES = st.ip_addresses()


def via(clients: Clients, peer: str, **headers: str) -> Via:
    """What the way here says, with these headers; a header's lines are parted by newlines."""
    identities = Identities(clients, {})
    values = {name.replace("_", "-").encode(): value.encode() for name, value in headers.items()}
    assert set(values) <= set(identities.apart)
    return identities.via(peer, tuple(values.get(name, b"") for name in identities.apart))


def name_of(way: Via) -> str:
    assert way.caller.client is not None
    return way.caller.client.name


@given(ADDRESSES, st.none() | st.integers(0, 65535), st.booleans(), st.sampled_from(["", "%eth0"]))
def test_an_address_is_the_same_however_a_hop_writes_it(address, port, quoted, zone) -> None:
    if address.version == 4:
        text, expected = str(address), address
        zone = ""
    else:
        text, expected = f"{address}{zone}", address.ipv4_mapped or address
        if port is not None:
            text = f"[{text}]"
    if port is not None:
        text += f":{port}"
    assert address_of(f' "{text}"\t' if quoted else text) == expected


@given(st.text(max_size=70))
def test_whatever_a_hop_says_it_is_an_address_or_none(text: str) -> None:
    address = address_of(text)
    assert address is None or ipaddress.ip_address(str(address)) == address


@pytest.mark.parametrize(
    "hop", ["", "_hidden", "unknown", "[::1", "1.2.3.4:x", "1.2.3.4:\u0661", "1.2.3", "::1]:80"]
)
def test_what_is_no_address_is_none(hop: str) -> None:
    assert address_of(hop) is None


@given(ADDRESSES)
def test_an_ipv6_client_is_its_network_and_an_ipv4_client_its_address(address) -> None:
    told = ipaddress.ip_network(network(str(address)))
    mapped = getattr(address, "ipv4_mapped", None)
    assert (mapped or address) in told
    assert told.prefixlen == (64 if address.version == 6 and mapped is None else 32)


@given(
    st.lists(ADDRESSES.map(str), max_size=40),
    st.lists(st.sampled_from(["10.0.0.1", "10.9.9.9"]), max_size=5),
)
def test_behind_gateways_the_client_is_the_nearest_that_is_none_of_them_whatever_it_wrote_itself(
    forged: list[str], gateways: list[str]
) -> None:
    hops = ", ".join([*forged, "203.0.113.7", *gateways])
    assert name_of(via(BEHIND, "10.0.0.1", x_forwarded_for=hops)) == "addr:203.0.113.7"


@given(st.lists(ADDRESSES.map(str), max_size=5))
def test_whoever_comes_past_the_gateways_is_known_by_its_address_alone(forged: list[str]) -> None:
    way = via(BEHIND, "203.0.113.7", x_forwarded_for=", ".join(forged), x_consumer="anna", x_plan="pro")
    assert name_of(way) == "addr:203.0.113.7"
    assert way.lines == b"X-Forwarded-For: 203.0.113.7\r\n"
    assert not way.believed


def test_a_gateway_names_the_client_and_its_tier() -> None:
    way = via(BEHIND, "10.0.0.1", x_consumer="anna", x_plan="pro")
    assert way.caller.client is not None
    assert (way.caller.client.name, way.caller.client.tier) == ("header:anna", "pro")
    assert not way.caller.client.anonymous
    assert b"X-Consumer: anna\r\n" in way.lines


@pytest.mark.parametrize(
    ("name", "words"),
    [("anna\nberta", "more than once"), ("a" * (LONGEST_NAME + 1), f"more than {LONGEST_NAME} bytes")],
)
def test_a_gateway_that_names_the_client_oddly_is_not_believed(name: str, words: str) -> None:
    assert words in via(BEHIND, "10.0.0.1", x_consumer=name).refusal


def test_what_is_forwarded_of_our_own_address_goes_on_and_others_addresses_do_not() -> None:
    way = via(Clients(), "203.0.113.7", forwarded='for=1.2.3.4;host=a.example;proto=https, for="[::1]"')
    assert way.public == b"host=a.example;proto=https"
    odd = 'for="a\\"b";host=x'
    assert via(Clients(), "203.0.113.7", forwarded=odd).public == odd.encode(), "readers may differ: whole"


def test_a_key_is_known_by_its_digest_and_a_wrong_one_is_refused_by_the_headers_own_name() -> None:
    client = Client("key:s/anna", "pro", anonymous=False)
    identities = Identities(KEYS, {hashlib.sha256(b"secret").digest(): client})
    found = identities.by_credential(b"secret", None)
    assert found is not None
    assert found.client is client
    wrong = identities.by_credential(b"Secret", None)
    assert wrong is not None
    assert wrong.client is None
    assert "X-API-Key" in wrong.words
    assert identities.by_credential(None, b"Bearer unknown") is None, "it may be the server's own"
    bearer = identities.by_credential(None, b"bearer  secret")
    assert bearer is not None
    assert bearer.client is client
    assert identities.ours(b"secret", b"Bearer secret") == {b"x-api-key", b"authorization"}
    assert identities.ours(b"x", b"Bearer x") == frozenset()


def test_a_key_header_is_the_servers_own_where_no_keys_are_configured() -> None:
    assert Identities(Clients(), {}).by_credential(b"anything", None) is None


def test_where_nobody_may_be_anonymous_it_is_said_what_to_send() -> None:
    clients = KEYS.model_copy(update={"anonymous": "deny"})
    caller = Identities(clients, {}).via("203.0.113.7", ()).caller
    assert (caller.client, caller.status) == (None, 401)
    assert "X-API-Key" in caller.words


@pytest.mark.parametrize(
    ("value", "token"),
    [(None, b""), (b"Bearer a.b", b"a.b"), (b"BEARER  a ", b"a"), (b"Basic a", b""), (b"Bearer", b"")],
)
def test_a_bearer_is_read_whatever_its_case(value: bytes | None, token: bytes) -> None:
    assert bearer_of(value) == token


def test_keys_are_read_by_their_file_and_one_key_for_two_clients_is_an_error(tmp_path: Path) -> None:
    folder = tmp_path / "s"
    folder.mkdir()
    (folder / "anna").write_text("one\n")
    (folder / "empty").write_text(" \n")
    (folder / "..data").write_text("hidden")
    known, missing = read_keys(KEYS, tmp_path)
    assert {digest: client.name for digest, client in known.items()} == {
        hashlib.sha256(b"one").digest(): "key:s/anna"
    }
    assert missing == ()
    assert read_keys(KEYS, tmp_path / "nowhere") == ({}, ("s",))
    (folder / "berta").write_text("one")
    with pytest.raises(ConfigError, match=r"s/anna and s/berta hold the same key"):
        read_keys(KEYS, tmp_path)
