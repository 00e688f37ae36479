"""What a server's status says."""

from dataclasses import replace

from tests.kit.mcpserver import DONE, DOWN, NONE, NOW, UP, context, deployment, ended, told

from mcpace_operator.polling.pods import pause
from mcpace_operator.resource.server import Key, Server
from mcpace_operator.resource.workload import Scaling
from mcpace_operator.status import document
from mcpace_operator.status.document import invalid
from mcpace_operator.status.live import Live
from mcpace_operator.status.news import event, news
from mcpace_operator.status.performance import merged
from mcpace_operator.status.reasons import Reason
from mcpace_operator.status.seen import Seen, ServerFacts, StoreState, Told, Trouble
from mcpace_sidecar.server.findings import REASONS as FINDINGS


def status(context, known, told, limits, cache, stopped, now, **more):
    return document.status(Seen(context, deployment(known), limits, cache, told, stopped, **more), now)


def conditions(said):
    return {c["type"]: (c["status"], c["reason"]) for c in said["conditions"]}


def test_ready_means_every_replica_is_current_and_answers():
    ctx = context(replicas=2)
    assert conditions(status(ctx, DONE, Told(), NONE, NONE, None, NOW))["Ready"] == (
        "True",
        "AllReplicasReady",
    )
    for change in ({"generation": 3}, {"updatedReplicas": 1}, {"availableReplicas": 1}, {"replicas": 3}):
        partial = status(ctx, DONE | change, Told(), NONE, NONE, None, NOW)
        assert conditions(partial)["Ready"] == ("False", "Progressing"), change
    assert conditions(status(ctx, {}, Told(), NONE, NONE, None, NOW))["Available"][0] == "False"


def test_what_keeps_pods_from_answering_is_said_until_they_do():
    stuck = Told(trouble=Trouble(Reason.ImageNotPulled, "The image is not to be had."))
    said = status(context(replicas=2), {"generation": 1}, stuck, NONE, NONE, None, NOW)
    assert conditions(said)["Ready"] == ("False", "ImageNotPulled")
    assert conditions(said)["Progressing"] == ("False", "ImageNotPulled")
    done = status(context(replicas=2), DONE, stuck, NONE, NONE, None, NOW)
    assert conditions(done)["Ready"] == ("True", "AllReplicasReady")
    assert conditions(done)["Progressing"] == ("False", "AllReplicasReady")


def test_a_reconcile_that_failed_is_said_before_what_pods_say():
    stuck = Told(trouble=Trouble(Reason.Crashes, "x"))
    said = status(context(replicas=2), {}, stuck, NONE, NONE, Trouble(Reason.ChildConflict, "y"), NOW)
    assert conditions(said)["Ready"] == ("False", "ChildConflict")


def test_without_replicas_in_the_manifest_the_live_number_counts():
    live = DONE | {"wanted": 2}
    assert conditions(status(context(), live, Told(), NONE, NONE, None, NOW))["Ready"][0] == "True"
    growing = status(context(), live | {"wanted": 5}, Told(), NONE, NONE, None, NOW)
    assert conditions(growing)["Ready"] == ("False", "Progressing")
    assert growing["replicasReady"] == "2/5"


def test_the_bound_on_database_connections_is_said_for_all_replicas():
    spec = {"database": {"secretRef": {"name": "db"}}, "autoscaling": {"maxReplicas": 10}}
    said = status(context(**spec), DONE | {"wanted": 2}, Told(), NONE, NONE, None, NOW)
    (pooled,) = [c for c in said["conditions"] if c["type"] == "DatabasePooled"]
    assert pooled["message"] == (
        "At most 20 connections per pod: 40 for 2 replicas, 200 for the 10 that autoscaling allows."
    )


LIVE = Live(merged([told(*[ended(seconds=0.038)] * 20)]), replicas_asked=2, scraped=5.0)


def test_what_was_measured_is_shown_and_judged():
    seen = Told(ServerFacts({"name": "weather"}, ("get",)), LIVE)
    said = status(context(replicas=2), DONE, seen, NONE, NONE, None, NOW)
    assert said["performance"]["p95"] in ("37ms", "38ms", "39ms")
    results = {item["name"]: item["result"] for item in said["checklist"]}
    assert results["LatencyUnderFiveSeconds"] == "Passed"
    assert results["LimitsPreventExhaustion"] == "Failed"
    (checklist,) = [c for c in said["conditions"] if c["type"] == "ChecklistPassed"]
    assert (checklist["status"], checklist["reason"]) == ("False", "ItemsFailed")
    assert "LimitsPreventExhaustion" in checklist["message"]


def test_a_new_operator_keeps_what_was_known_until_it_has_asked():
    seen = Told(ServerFacts({"name": "weather"}, ("get",)), LIVE)
    before = status(context(replicas=2), DONE, seen, NONE, NONE, None, NOW)
    after = status(context(status=before, replicas=2), DONE, Told(), NONE, NONE, None, NOW)
    assert after == before


def test_few_servers_are_asked_often_and_many_three_times_a_second_in_all():
    assert [pause(servers) for servers in (1, 50, 100, 1000, 5000)] == [15.0, 15.0, 30.0, 300.0, 300.0]


def test_the_same_numbers_a_little_different_are_no_news():
    ctx = context()
    first, other = Told(live=LIVE), Told(live=Live(LIVE.performance, replicas_asked=2, scraped=14.0))
    assert not other.is_news(first, ctx)
    assert Told(live=Live(LIVE.performance, 2, scraped=999.0)).is_news(first, ctx), (
        "nobody reads the metrics now"
    )
    assert Told(live=Live(merged([]), 2, scraped=5.0)).is_news(first, ctx), "the traffic has stopped"
    assert first.is_news(Told(), ctx)


def test_a_status_that_nobody_can_read_is_written_anew():
    broken = {"conditions": "none", "performance": 5, "url": []}
    said = status(context(status=broken, replicas=2), DONE, Told(), NONE, NONE, None, NOW)
    assert conditions(said)["Ready"] == ("True", "AllReplicasReady")
    server = Server(Key("ns", "weather"), "u", 4, {}, broken)
    assert conditions(invalid(server, "x", NOW))["Ready"] == ("False", "InvalidSpec")


def test_a_store_that_is_down_is_said_with_what_happens_meanwhile():
    ctx = context(rateLimits={"whenRedisIsDown": "open"}, cache={"tools": []})
    said = status(ctx, DONE, Told(), DOWN, UP, None, NOW)
    assert conditions(said)["LimitsEnforced"] == ("False", "RedisDown")
    assert conditions(said)["CacheReady"] == ("True", "RedisAnswers")
    assert "not enforced" in next(c["message"] for c in said["conditions"] if c["type"] == "LimitsEnforced")


def test_a_transition_time_changes_with_the_status_alone():
    before = status(context(replicas=2), {}, Told(), NONE, NONE, None, NOW)
    later = NOW.replace(hour=13)
    again = status(context(status=before, replicas=2), {}, Told(), NONE, NONE, None, later)
    assert again == before
    done = status(context(status=before, replicas=2), DONE, Told(), NONE, NONE, None, later)
    assert all(c["lastTransitionTime"] == "2026-11-22T13:00:00Z" for c in done["conditions"])


def test_an_unusable_spec_keeps_the_address_and_says_what_to_write():
    server = Server(Key("ns", "weather"), "u", 4, {}, {"url": "http://x", "conditions": []})
    said = invalid(server, "image: Field required", NOW)
    assert said["url"] == "http://x"
    assert conditions(said)["Ready"] == ("False", "InvalidSpec")


def seen(live=None, spec=None, **more):
    """Type -> (status, reason, message) of a server whose sidecars told this."""
    told = Told(
        ServerFacts({"name": "weather"}, ("get",)), replace(LIVE, **live) if live is not None else None
    )
    said = status(
        context(**({"replicas": 2} if spec is None else spec)),
        DONE | {"wanted": 2},
        told,
        NONE,
        NONE,
        None,
        NOW,
        **more,
    )
    return {c["type"]: (c["status"], c["reason"], c["message"]) for c in said["conditions"]}


def test_rules_without_effect_and_missing_secrets_are_said():
    assert seen({})["RulesApply"][:2] == ("True", "EveryRuleApplies")
    unknown = ("UnknownTool", "rateLimits.tools[0].name: 'report_storm' is no tool that the server lists")
    one = seen({"rules": (unknown,)})["RulesApply"]
    assert one == ("False", "RulesWithoutEffect", f"{unknown[1]}.")
    missing = seen({"missing_secrets": ("weather-pro",)})["RulesApply"]
    assert missing == ("False", "SecretMissing", "clients.apiKeys: the Secret weather-pro is not there.")
    nobody = seen({"rules": (unknown, ("NobodyMayCall", "clients.anonymous: deny refuses every caller"))})
    assert nobody["RulesApply"][1] == "NobodyMayCall"
    many = seen({"rules": tuple(("UnknownTool", f"rule {n}") for n in range(9))})["RulesApply"]
    assert many[2].endswith("; and 4 more.")


def test_a_server_whose_slots_are_all_taken_is_said_to_be_full_and_stays_ready():
    full = seen({"full": True})
    assert full["HasRoom"][:2] == ("False", "SlotsTaken")
    assert full["Ready"][0] == "True"
    assert seen({})["HasRoom"][:2] == ("True", "SlotsFree")


MOUNT = {"name": "data", "mountPath": "/data"}
PROCESSES = {"transport": "stdio", "command": ["mcp-server-memory"], "volumeMounts": [MOUNT]}
SHARED = {"stdio": {"processes": "shared"}, "replicas": 1}


def test_a_file_of_several_processes_is_said_to_lose_what_they_write():
    status, reason, words = seen({}, PROCESSES)["FilesKept"]
    assert (status, reason) == ("False", "ProcessesShareFiles")
    assert "/data" in words
    assert "`stdio: {processes: shared}` and `replicas: 1`" in words
    more = {"stdio": {"processes": "shared", "maxProcesses": 2}, "replicas": 1}
    for spec in ({"replicas": 1}, SHARED | {"replicas": 2}, more):
        assert "FilesKept" in seen({}, PROCESSES | spec)


def test_nothing_is_said_of_files_where_one_process_writes_or_none():
    assert "FilesKept" not in conditions(
        status(context(**PROCESSES, **SHARED), DONE, Told(live=LIVE), NONE, NONE, None, NOW)
    )
    for spec in ({"volumeMounts": [MOUNT | {"readOnly": True}]}, {"volumeMounts": []}):
        assert "FilesKept" not in seen({}, PROCESSES | spec)
    assert "FilesKept" not in seen({}, {"volumeMounts": [MOUNT]})


def test_sessions_and_several_replicas_are_said_to_go_badly_together():
    told = {"has_sessions": True}
    assert seen(told)["SessionsKept"][:2] == ("False", "SessionsPerReplica")
    assert "older than the operator" in seen(told)["SessionsKept"][2]
    assert "SessionsKept" not in seen(told | {"relays": True}), "any replica answers"
    apart = {"sessions": {"continuity": False}}
    assert "404 Session not found" in seen(told, apart)["SessionsKept"][2]
    assert "SessionsKept" not in seen({}, apart)
    scaled = {"autoscaling": {"minReplicas": 2, "maxReplicas": 9}}
    assert "SessionsKept" in seen({"has_sessions": True}, scaled)
    one = status(
        context(replicas=1), DONE, Told(live=replace(LIVE, has_sessions=True)), NONE, NONE, None, NOW
    )
    assert "SessionsKept" not in conditions(one)


def test_an_autoscaler_without_metrics_is_said():
    spec = {"autoscaling": {"maxReplicas": 9}}
    words = "failed to get cpu utilization: no metrics API"
    told = {
        "type": "ScalingActive",
        "status": "False",
        "reason": "FailedGetResourceMetric",
        "message": words,
    }
    blind = seen(spec=spec, autoscaler=Scaling.of({"status": {"conditions": [told]}}))["AutoscalingActive"]
    able = Scaling.of({"status": {"conditions": [told | {"status": "True"}]}})
    assert blind[:2] == ("False", "NoMetrics")
    assert words in blind[2]
    assert seen(spec=spec, autoscaler=able)["AutoscalingActive"][1] == "MetricsRead"
    assert seen(spec=spec)["AutoscalingActive"][:2] == ("Unknown", "NotJudged")
    assert "AutoscalingActive" not in seen()


def test_what_sidecars_told_is_kept_until_they_are_asked_again():
    before = status(context(replicas=2), DONE, Told(live=replace(LIVE, full=True)), NONE, NONE, None, NOW)
    after = status(context(status=before, replicas=2), DONE, Told(), NONE, NONE, None, NOW)
    assert conditions(after) == conditions(before)
    assert Told(live=replace(LIVE, full=True)).is_news(Told(live=LIVE), context())


def test_a_store_that_refuses_us_is_not_called_down():
    ctx = context(rateLimits={}, cache={"tools": []})
    said = status(ctx, DONE, Told(), StoreState(False, "it takes no credential of ours"), DOWN, None, NOW)
    assert conditions(said)["LimitsEnforced"] == ("False", "RedisUnusable")
    assert conditions(said)["CacheReady"] == ("False", "RedisDown")


def test_a_replica_that_starts_says_what_it_waits_for():
    said = status(context(replicas=2), {}, Told(waits="no connection on port 8000"), NONE, NONE, None, NOW)
    (ready,) = [c for c in said["conditions"] if c["type"] == "Ready"]
    assert ready["reason"] == "Progressing"
    assert ready["message"] == "0 of 2 replicas are ready. Waiting: no connection on port 8000"


def test_what_an_api_server_quotes_at_length_is_cut_in_conditions_and_events():
    quoted = Trouble(Reason.ApplyFailed, "\u00e4" * 1_000_000)
    said = status(context(), {}, Told(), NONE, NONE, quoted, NOW)
    (ready,) = [c for c in said["conditions"] if c["type"] == "Ready"]
    assert len(ready["message"]) == 4096
    (told,) = [each for each in news({}, said) if each.reason is Reason.ApplyFailed]
    assert len(event(context().server, told, "here")["note"].encode()) == 1024  # bytes, as the API counts


def test_the_finding_that_has_a_reason_of_its_own_is_one_of_the_sidecars():
    assert Reason.NobodyMayCall.name in FINDINGS
