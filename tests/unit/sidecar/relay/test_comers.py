"""Who waits for a handshake: how many, and whose turn it is."""

import socket

import pytest

from mcpace_sidecar.relay.comers import Comer, Comers


@pytest.fixture
def opened():
    with socket.socket() as one:
        yield one


def test_an_address_has_so_many_and_no_more(opened: socket.socket) -> None:
    comers = Comers(most=10, most_each=3)
    for _ in range(3):
        assert comers.has_room("a")
        assert comers.add(Comer(opened, "a", 0.0)) is None
    assert not comers.has_room("a")
    assert comers.has_room("b")


def test_where_there_are_too_many_the_newest_of_the_heaviest_address_goes(opened: socket.socket) -> None:
    comers = Comers(most=4, most_each=3)
    heavy = [Comer(opened, "a", 0.0) for _ in range(3)]
    for comer in (*heavy, Comer(opened, "b", 0.0)):
        comers.add(comer)
    assert comers.add(Comer(opened, "c", 0.0)) is heavy[2]
    assert comers.add(Comer(opened, "d", 0.0)) is heavy[1]
    assert len(comers) == 4
    assert not comers.has_room("b"), "one of each: none is heavier"
    assert comers.has_room("e")


def test_addresses_take_turns_and_who_says_nothing_has_none(opened: socket.socket) -> None:
    comers = Comers()
    said = {}
    for peer in ("silent", "a", "a", "b"):
        comer = Comer(opened, peer, 0.0)
        comer.hello = peer != "silent"
        comers.add(comer)
        said.setdefault(peer, []).append(comer)
    turns = []
    while (comer := comers.next(lambda _: True)) is not None:
        comers.discard(comer)
        turns.append(comer)
    assert turns == [said["a"][0], said["b"][0], said["a"][1]]
    assert comers.since(0.0) == said["silent"]
    assert comers.next(lambda peer: peer == "silent") is None
