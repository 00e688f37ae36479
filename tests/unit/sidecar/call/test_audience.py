"""Open event streams: who goes when there are too many."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mcpace_sidecar.call.audience import Audience


class Stream:
    def close_stream(self) -> None:
        raise AssertionError("it is closed by whoever let the other in")


STEPS = st.lists(
    st.tuples(st.sampled_from(["enter", "heard", "leave"]), st.sampled_from("abc"), st.integers(0, 20)),
    max_size=60,
)


@given(most=st.integers(1, 6), steps=STEPS)
def test_streams_are_never_too_many_and_the_one_that_goes_is_of_the_client_that_has_the_most(
    most, steps
) -> None:
    audience = Audience(most)
    of: dict[Stream, str] = {}  # the longest silent first
    for verb, client, number in steps:
        listening = list(of)
        if verb == "enter":
            stream = Stream()
            counts = {name: list(of.values()).count(name) + (name == client) for name in "abc"}
            leaving = audience.enter(stream, client)
            of[stream] = client
            for gone in leaving:
                assert counts[of[gone]] == max(counts.values())
                assert gone is next(each for each in of if of[each] == of[gone]), "the longest silent"
                del of[gone]
            assert len(leaving) <= 1
        elif listening:
            stream = listening[number % len(listening)]
            if verb == "heard":
                audience.heard(stream)
                of[stream] = of.pop(stream)
            else:
                audience.leave(stream)
                audience.leave(stream)
                del of[stream]
        assert len(audience) == len(of) <= most
    audience.heard(Stream())
    assert len(audience) == len(of), "who is not there is not heard"


def test_a_smaller_bound_is_kept_from_the_next_stream_on() -> None:
    audience = Audience(5)
    streams = [Stream() for _ in range(5)]
    for stream in streams:
        audience.enter(stream, "a")
    audience.most = 2
    last = Stream()
    assert audience.enter(last, "b") == streams[:4]
    assert len(audience) == 2
