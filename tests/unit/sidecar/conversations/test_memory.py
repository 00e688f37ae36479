"""Calls that go on after the server has asked its client something: one call, counted once, and not for ever."""

from hypothesis import given
from hypothesis import strategies as st

from mcpace_sidecar.conversations.memory import REMEMBERED, ROUNDS, Conversations
from mcpace_sidecar.conversations.questions import PATIENCE


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["asked", "continues"]),
            st.sampled_from([b"a", b"b"]),
            st.floats(0, 2 * PATIENCE),
        ),
        max_size=40,
    )
)
def test_each_question_lets_one_call_pass_and_no_late_one(steps) -> None:
    clock = Clock()
    conversations = Conversations(clock)
    open_until: dict[bytes, float] = {}
    for verb, key, pause in steps:
        if verb == "asked":
            conversations.asked(key, 0)
            open_until[key] = clock.now + PATIENCE
        else:
            rounds = conversations.continues(key)
            assert rounds == int(open_until.pop(key, 0.0) > clock.now)
        assert len(conversations) == len(open_until)
        clock.now += pause


def test_a_counted_call_covers_so_many_questions_and_then_one_is_counted_anew() -> None:
    conversations = Conversations(Clock())
    rounds = covered = 0
    for _ in range(ROUNDS):
        conversations.asked(b"k", rounds)
        rounds = conversations.continues(b"k")
        covered += rounds > 0
    assert covered == rounds == ROUNDS
    conversations.asked(b"k", rounds)
    assert conversations.continues(b"k") == 0


def test_of_ever_new_conversations_the_oldest_are_forgotten() -> None:
    conversations = Conversations(Clock())
    for number in range(REMEMBERED + 10):
        conversations.asked(b"%d" % number, 0)
    assert len(conversations) <= REMEMBERED
    assert conversations.continues(b"%d" % (REMEMBERED + 9)) == 1
    assert conversations.continues(b"0") == 0
