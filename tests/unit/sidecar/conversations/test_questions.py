"""Whom the server waits for."""

from hypothesis import given
from hypothesis import strategies as st

from mcpace_sidecar.conversations.questions import PATIENCE, Questions

WHO = st.sampled_from([b"anna", b"berta"])
WHAT = st.sampled_from([b"1", b"2", b'"x"'])


@given(
    st.lists(
        st.tuples(st.sampled_from(["asked", "answered"]), WHO, WHAT, st.floats(0, PATIENCE)), max_size=40
    )
)
def test_the_server_waits_for_whom_it_asked_and_who_has_not_answered_in_time(steps) -> None:
    questions, now = Questions(), 0.0
    open_until: dict[tuple[bytes, bytes], float] = {}
    for verb, who, what, pause in steps:
        if verb == "asked":
            questions.asked(who, what, now)
            open_until[who, what] = now + PATIENCE
        else:
            questions.answered(who, what)
            open_until.pop((who, what), None)
        now += pause
        for each in (b"anna", b"berta", b"nobody"):
            assert questions.wait(each, now) == any(
                w == each and u > now for (w, _), u in open_until.items()
            )
        assert len(questions) == len({w for w, _ in open_until})


def test_ever_new_questions_and_clients_are_held_in_bounds() -> None:
    questions = Questions()
    for number in range(10_000):
        questions.asked(b"anna", b"%d" % number, 0.0)
    assert questions.wait(b"anna", 1.0)
    for number in range(10_000):
        questions.asked(b"%d" % number, b"1", 0.0)
    assert len(questions) < 5_000
    assert questions.wait(b"9999", 1.0)
