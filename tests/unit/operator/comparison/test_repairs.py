"""Children that somebody else keeps changing, and what is told of a server."""

from mcpace_operator.comparison.drift import ChildId
from mcpace_operator.comparison.repairs import MOST, PAUSE, WINDOW, Repairs, changed_by
from mcpace_operator.resource.server import Key
from mcpace_operator.status.news import News, news
from mcpace_operator.status.reasons import Reason

KEY, SERVICE = Key("ns", "weather"), ChildId("Service", "weather")
ONE, OTHER = {"a": 1}, {"a": 2}


def repaired(times, every=1.0):
    """A child applied once and put back so often."""
    repairs = Repairs()
    for number in range(times + 1):
        repairs.note(KEY, SERVICE, ONE, "kubectl-edit", number * every)
    return repairs, times * every


def test_the_same_applied_again_is_a_repair_and_another_is_not():
    repairs = Repairs()
    assert not repairs.is_one(KEY, SERVICE, ONE)
    repairs.note(KEY, SERVICE, ONE, "", 0)
    assert repairs.is_one(KEY, SERVICE, ONE)
    assert not repairs.is_one(KEY, SERVICE, OTHER)
    repairs.removed(KEY, SERVICE)
    assert not repairs.is_one(KEY, SERVICE, ONE)


def test_more_than_five_repairs_in_ten_minutes_are_a_contest_until_it_is_quiet():
    few, now = repaired(MOST)
    assert few.contested(KEY, now) == {}
    repairs, now = repaired(MOST + 1)
    assert repairs.contested(KEY, now) == {SERVICE: "kubectl-edit"}
    assert repairs.must_wait(KEY, SERVICE, now)
    assert not repairs.must_wait(KEY, SERVICE, now + PAUSE), "once a minute it is tried"
    assert repairs.contested(KEY, now + WINDOW) == {}
    repairs.forget(KEY)
    assert repairs.contested(KEY, now) == {}


def test_repairs_now_and_then_are_none():
    seldom, now = repaired(50, every=WINDOW / MOST)
    assert seldom.contested(KEY, now) == {}


def test_a_manifest_that_changes_often_contests_nothing():
    repairs = Repairs()
    for number in range(20):
        repairs.note(KEY, SERVICE, {"a": number}, "", number)
    assert repairs.contested(KEY, 20) == {}


def test_who_changed_an_object_is_whoever_wrote_last_beside_us():
    entries = [
        {"manager": "mcpace", "time": "2026-01-01T00:00:09Z"},
        {"manager": "kubectl-edit", "time": "2026-01-01T00:00:05Z"},
        {"manager": "helm", "time": "2026-01-01T00:00:01Z"},
        {"manager": "kube-controller-manager", "subresource": "status", "time": "2026-01-01T00:00:08Z"},
    ]
    assert changed_by({"metadata": {"managedFields": entries}}) == "kubectl-edit"
    assert changed_by({"metadata": {}}) == changed_by(None) == ""


def status(**conditions):
    """A status; a condition's argument is (status, reason)."""
    return {
        "conditions": [
            {"type": kind, "status": holds, "reason": reason, "message": "words"}
            for kind, (holds, reason) in conditions.items()
        ]
    }


def test_a_trouble_and_its_end_are_told_and_the_usual_is_not():
    starting = status(Ready=("False", "Progressing"), Available=("False", "NoReplicaAvailable"))
    crashing = status(Ready=("False", "Crashes"), Available=("False", "NoReplicaAvailable"))
    well = status(Ready=("True", "AllReplicasReady"), Available=("True", "ReplicasAvailable"))
    scaling = status(Ready=("False", "Progressing"), Available=("True", "ReplicasAvailable"))
    assert list(news({}, starting)) == []
    assert list(news(starting, crashing)) == [News(Reason.Crashes, "words", bad=True)]
    assert list(news(crashing, crashing)) == []
    assert list(news(crashing, well)) == [News(Reason.ReplicasAvailable, "words", bad=False)]
    assert list(news(well, scaling)) == list(news(scaling, well)) == []


def test_a_contest_is_told_and_a_status_that_nobody_can_read_hinders_nothing():
    contested = status(ChildrenInSync=("False", "ChildContested"))
    assert list(news({"conditions": "what"}, contested)) == [News(Reason.ChildContested, "words", bad=True)]
