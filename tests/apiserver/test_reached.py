"""People's commands with a real API server in between: whose rights count, and which of them is missing."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import pty
import re
import select
import signal
import socket
import subprocess
import tarfile
import termios
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.kit.laptop import MCPACE, mcpace
from tests.kit.pods import pod
from tests.kit.sidecars import Running, Start
from tests.kit.terminal import on_a_terminal
from tests.kit.upstream import Scripted
from tests.kit.waiting import STARTING, until
from tools.cluster.controlplane import ControlPlane
from tools.cluster.kubectl import Kubectl

from mcpace_cli.cluster.access import Access, SilentError
from mcpace_operator.cluster.client import Cluster
from mcpace_operator.resource.server import Key

TOKEN = "the-admin-token-of-weathers-sidecars"
SECRET = "hunter2-of-the-manifest"
SPEC: dict[str, Any] = {
    "image": "weather:1",
    "command": ["python", "server.py", "--key", SECRET],
    "env": [{"name": "API_KEY", "value": SECRET}],
    "cache": {"tools": [{"name": "forecast", "ttl": "5m"}]},
}
LIMITS = {"tiers": [{"name": "free", "requestsPerMinute": 60, "requestsPerDay": 100}]}
CHECKLIST = [
    {"name": "LatencyUnderFiveSeconds", "result": "Passed", "evidence": "95 % of calls take up to 0.1 s."},
    {
        "name": "FrequentCallsCached",
        "result": "Failed",
        "evidence": "get-weather is read-only, was called 40 times and is not cached.",
        "mend": "cache: {tools: [{name: get-weather, ttl: 60s}]}",
    },
    {
        "name": "LimitsPreventExhaustion",
        "result": "Failed",
        "evidence": "Anybody may.",
        "mend": "rateLimits: {}",
    },
]
STATUS: dict[str, Any] = {
    "observedGeneration": 1,
    "replicasReady": "1/1",
    "performance": {"callsPerSecond": "12", "p50": "10ms", "p95": "120ms", "p99": "1.1s", "errorRate": "0.5%"},
    "checklist": CHECKLIST,
    "conditions": [
        {
            "type": "Ready", "status": "True", "reason": "AllReplicasReady",
            "message": f"1 of 1; it said redis://me:{SECRET}@redis:6379 and token={SECRET}, or {TOKEN}",
        }
    ],
}  # fmt: skip


def address() -> str:
    """One of this machine's that is no loopback: an API server passes nothing on to that."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.254", 9))  # nothing is sent
            found = str(probe.getsockname()[0])
        except OSError:
            found = "127.0.0.1"
    if found.startswith("127."):
        pytest.skip("this machine has no address but the loopback's")
    return found


def server(api: Kubectl, port: int) -> None:
    """The server with a status as an operator writes it, and its Secret."""
    api.apply("weather", **SPEC, sidecar={"adminPort": port})
    patch = json.dumps({"status": STATUS})
    api.ok("patch", "mcpserver", "weather", "--subresource=status", "--type=merge", "-p", patch)
    data = {"admin-token": base64.b64encode(TOKEN.encode()).decode()}
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "weather-mcpace"}, "data": data}
    api.ok("apply", "-f", "-", stdin=json.dumps(secret))


@pytest.fixture
async def sidecar(api: Kubectl, weather: int, start: Start) -> AsyncIterator[Running]:
    """A real sidecar that has been called, as the API server reaches it."""
    place = address()
    running = await start(weather, {"rateLimits": LIMITS}, admin=place, admin_token=TOKEN)
    await running.ready()
    await running.call("forecast", {"city": "Oslo"})
    server(api, running.admin)
    pod(api, "weather-1", place)
    yield running
    api.ok("delete", "pods", "--all", "--force", "--grace-period=0")
    api.ok("delete", "mcpserver/weather", "secret/weather-mcpace")


Rights = Callable[[str], None]


@pytest.fixture
def viewer(plane: ControlPlane, api: Kubectl) -> Iterator[str]:
    """The kubeconfig of somebody with the rights of `view` in the namespace default, as the chart extends it."""
    role = ["clusterrole", "see-mcpservers", "--verb=get,list,watch", "--resource=mcpservers.mcpace.dev"]
    api.ok("create", *role)
    for name in ("view", "see-mcpservers"):
        api.ok("create", "rolebinding", f"viewer-{name}", f"--clusterrole={name}", "--user=viewer")
    yield str(plane.authority.kubeconfig("viewer", "viewer", None, plane.url))
    api.ok("delete", "role,rolebinding", "--all")
    api.ok("delete", "clusterrole", "see-mcpservers")


@pytest.fixture
def give(api: Kubectl) -> Rights:
    """Gives the viewer what the rules in a message say, and nothing else."""
    given: list[Any] = []

    def by_message(words: str) -> None:
        rules = [rule for line in re.findall(r"- \{apiGroups.*?\}", words) for rule in yaml.safe_load(line)]
        assert rules, words
        given.extend(rules)
        head = {"apiVersion": "rbac.authorization.k8s.io/v1", "metadata": {"name": "given"}}
        group = "rbac.authorization.k8s.io"
        reference = {"apiGroup": group, "kind": "Role", "name": "given"}
        user = {"apiGroup": group, "kind": "User", "name": "viewer"}
        api.ok("apply", "-f", "-", stdin=json.dumps(head | {"kind": "Role", "rules": given}))
        binding = head | {"kind": "RoleBinding", "roleRef": reference, "subjects": [user]}
        api.ok("apply", "-f", "-", stdin=json.dumps(binding))

    return by_message


async def done(
    *arguments: str, kubeconfig: str, folder: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a command while the sidecar under test goes on in this process."""
    command = [*MCPACE, *arguments]
    return await asyncio.to_thread(
        subprocess.run, command, env=os.environ | {"KUBECONFIG": kubeconfig}, cwd=folder,
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60,
    )  # fmt: skip


async def read(*arguments: str, kubeconfig: str) -> Any:
    ended = await done(*arguments, "-o", "json", kubeconfig=kubeconfig)
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout)


async def test_whoever_may_view_sees_servers_and_the_rule_that_is_printed_shows_more(
    sidecar: Running, viewer: str, give: Rights
):
    (row,) = (await read("top", kubeconfig=viewer))["servers"]
    assert (row["name"], row["ready"], row["condition"]) == ("weather", "1/1", "AllReplicasReady")
    assert row["performance"] == STATUS["performance"]
    assert row["checklist"] == {
        "passed": 1, "of": 3, "failed": ["FrequentCallsCached", "LimitsPreventExhaustion"],
    }  # fmt: skip

    bare = await done("top", "weather", "-o", "json", kubeconfig=viewer)
    assert bare.returncode == 0
    assert json.loads(bare.stdout)["tools"] == []
    assert "You may not get secrets/weather-mcpace in the namespace default" in bare.stderr
    assert "resources: [pods/proxy]" in bare.stderr
    everywhere = await done("top", "-A", kubeconfig=viewer)
    assert (everywhere.returncode, "A ClusterRole lets you by this rule" in everywhere.stderr) == (2, True)

    give(bare.stderr)

    async def inside() -> Any:
        told = await read("top", "weather", kubeconfig=viewer)
        return told if told["tools"] else None

    told = await until(inside, "the rights to be known", STARTING)
    assert [(tool["name"], tool["calls"]) for tool in told["tools"]] == [("forecast", 1)]
    (client,) = told["clients"]
    assert client["client"] == "addr:127.0.0.1"
    assert {each["limit"]: each["of"] for each in client["limits"]} == {"minute": 60, "day": 100}


async def test_what_changes_something_takes_one_right_more(sidecar: Running, viewer: str, give: Rights):
    reset = ("limits", "reset", "weather", "addr:127.0.0.1")
    first = await done(*reset, kubeconfig=viewer)
    assert (first.returncode, "get secrets/weather-mcpace" in first.stderr) == (2, True), first.stderr
    give(first.stderr)

    async def second() -> str:
        ended = await done(*reset, kubeconfig=viewer)
        assert ended.returncode == 2
        return ended.stderr if "create pods/proxy" in ended.stderr else ""

    give(await until(second, "the Secret to be readable", STARTING))

    async def allowed() -> bool:
        return (await done(*reset, kubeconfig=viewer)).returncode == 0

    await until(allowed, "the reset to be allowed", STARTING)
    purged = await done("cache", "purge", "weather", "--all", kubeconfig=viewer)
    assert purged.returncode == 0, purged.stderr
    lacks = await done("limits", "show", "weather", kubeconfig=viewer)
    assert "You may not get pods/proxy" in lacks.stderr
    give(lacks.stderr)

    async def told() -> Any:
        ended = await done("limits", "show", "weather", "-o", "json", kubeconfig=viewer)
        return json.loads(ended.stdout)["clients"] if ended.returncode == 0 else None

    (client,) = await until(told, "the limits to be shown", STARTING)
    assert all(each["left"] == each["of"] for each in client["limits"])


async def test_the_checklist_is_told_with_what_mends_it_and_an_api_server_takes_that(
    sidecar: Running, viewer: str, api: Kubectl
):
    ended = await done("check", "weather", "-o", "json", kubeconfig=viewer)
    assert ended.returncode == 1, ended.stderr
    told = json.loads(ended.stdout)
    assert [each["result"] for each in told["items"]] == ["Passed", "Failed", "Failed"]
    tools = [{"name": "forecast", "ttl": "5m"}, {"name": "get-weather", "ttl": "60s"}]
    assert told["mended"] == {"cache": {"tools": tools}, "rateLimits": {}}
    patch = json.dumps({"spec": told["mended"]})
    api.ok("patch", "mcpserver", "weather", "--type=merge", "--dry-run=server", "-p", patch)
    table = await done("check", "weather", kubeconfig=viewer)
    assert "get-weather is read-only, was called 40 times and is not cached." in table.stdout
    assert yaml.safe_load(table.stdout.partition("in the manifest:\n\n")[2]) == {"spec": told["mended"]}
    assert "has not looked" not in ended.stderr + table.stderr
    api.ok("patch", "mcpserver", "weather", "--type=merge", "-p", patch)
    old = await done("check", "weather", "-o", "json", kubeconfig=viewer)
    assert "default/weather: The operator has not looked at the manifest as it is now" in old.stderr
    assert json.loads(old.stdout)["items"] == told["items"]

    unknown = await done("check", "wether", kubeconfig=viewer)
    assert (unknown.returncode, "did you mean weather?" in unknown.stderr) == (2, True), unknown.stderr


async def test_a_bundle_holds_what_helps_and_nothing_secret(
    sidecar: Running, plane: ControlPlane, tmp_path: Path
):
    path = tmp_path / "bundle.tar.gz"
    ended = await done("support-bundle", "weather", "--out", str(path), kubeconfig=str(plane.kubeconfig))
    assert ended.returncode == 0, ended.stderr
    assert path.stat().st_mode & 0o777 == 0o600
    with tarfile.open(path) as tar:
        members = [each for each in tar.getmembers() if each.isfile()]
        files = {each.name.partition("/")[2]: tar.extractfile(each).read().decode() for each in members}
    assert {
        "README.txt",
        "mcpserver.yaml",
        "pods.yaml",
        "events.yaml",
        "versions.json",
        "stats/weather-1.json",
    } <= set(files)
    for name, text in files.items():
        assert SECRET not in text, name
        assert TOKEN not in text, name
        assert base64.b64encode(TOKEN.encode()).decode() not in text, name
        assert "Oslo" not in text, f"{name} holds an argument"
    told = yaml.safe_load(files["mcpserver.yaml"])
    assert told["spec"]["command"] == ["python", "*** (3 more)"]
    assert told["spec"]["cache"] == SPEC["cache"]
    assert told["status"]["checklist"] == CHECKLIST
    assert json.loads(files["stats/weather-1.json"])["calls"]["forecast"]["count"] == 1
    versions = json.loads(files["versions.json"])
    assert versions["kubernetes"].startswith("v1.")
    assert versions["sidecars"]["weather-1"] == versions["mcpace"]
    assert "Not in it:" in files["README.txt"], "here is no kubelet, so no log can be had"
    again = await done("support-bundle", "weather", "--out", str(path), kubeconfig=str(plane.kubeconfig))
    assert (again.returncode, "is already there" in again.stderr) == (2, True)


async def test_a_pod_that_sends_elsewhere_sends_nobody(api: Kubectl, plane: ControlPlane, sidecar: Running):
    elsewhere, evil = Scripted(), Scripted()
    evil.answer = lambda _: (
        b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:%d/\r\nContent-Length: 0\r\n\r\n"
        % elsewhere.port
    )
    await elsewhere.start()
    await evil.start(address())
    try:
        patch = json.dumps({"spec": {"sidecar": {"adminPort": evil.port}}})
        api.ok("patch", "mcpserver", "weather", "--type=merge", "-p", patch)
        ended = await done("cache", "show", "weather", kubeconfig=str(plane.kubeconfig))
        assert ended.returncode == 2
        assert "weather" in ended.stderr
        assert len(evil.heard) == 1
        assert not elsewhere.heard
    finally:
        await evil.stop()
        await elsewhere.stop()


def test_where_there_is_no_pod_or_no_server_it_is_said(api: Kubectl, plane: ControlPlane):
    server(api, 18090)
    try:
        who = {"KUBECONFIG": str(plane.kubeconfig)}
        for name, words in (
            ("weather", "No pod of default/weather runs|No container of default/weather"),
            ("nothing", "has no McpServer nothing"),
        ):
            for ended in (
                mcpace("limits", "show", name, **who),
                mcpace("cache", "show", name, **who),
                mcpace("logs", name, **who),
            ):
                assert ended.returncode == 2
                assert re.search(words, ended.stderr)
    finally:
        api.ok("delete", "mcpserver/weather", "secret/weather-mcpace")


async def test_a_pod_that_has_gone_meanwhile_is_said_to_be_gone(api: Kubectl, plane: ControlPlane):
    cluster = await Cluster.connect(str(plane.kubeconfig))
    try:
        with pytest.raises(SilentError, match=r"^weather-9 is not there any more$"):
            await Access(cluster, "default").ask(
                Key("default", "weather"), "weather-9", 1, TOKEN, "/stats", {}
            )
    finally:
        await cluster.close()


async def test_on_a_terminal_a_server_opens_to_its_tools_and_clients(sidecar: Running, plane: ControlPlane):
    seen = await asyncio.to_thread(
        played, str(plane.kubeconfig),
        [("weather", b"\r"), ("forecast", b"\r"), ("addr:127.0.0.1", b"\x1b"), ("forecast", b"q")],
    )  # fmt: skip
    assert "Traceback" not in seen


def test_killed_or_stopped_top_leaves_the_terminal_as_it_was(api: Kubectl, plane: ControlPlane):
    with on_a_terminal(*MCPACE, "top", KUBECONFIG=str(plane.kubeconfig)) as terminal:
        terminal.until(lambda: "servers, by calls" in terminal.text, "the servers", STARTING)
        assert not terminal.is_as_before
        terminal.press(b"\x1a")
        terminal.stopped()
        terminal.until(lambda: terminal.is_as_before, "the terminal to be as before")
        seen = len(terminal.output)
        terminal.send(signal.SIGCONT)
        terminal.until(lambda: b"servers, by calls" in terminal.output[seen:], "the servers again")
        assert not terminal.is_as_before
        terminal.send(signal.SIGKILL)
        assert terminal.ended() == -signal.SIGKILL
        terminal.until(lambda: terminal.is_as_before, "the terminal to be as before")


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_what_is_ended_leaves_no_key_of_a_kubeconfig_behind(
    plane: ControlPlane, api: Kubectl, tmp_path: Path, number: signal.Signals, code: int
):
    document = yaml.safe_load(plane.kubeconfig.read_text())
    user = document["users"][0]["user"]
    for name in ("client-certificate", "client-key"):
        user[f"{name}-data"] = base64.b64encode(Path(user.pop(name)).read_bytes()).decode()
    path, kept = tmp_path / "kubeconfig", tmp_path / "kept"
    path.write_text(yaml.safe_dump(document))
    kept.mkdir()
    with on_a_terminal(*MCPACE, "top", KUBECONFIG=str(path), TMPDIR=str(kept)) as terminal:
        terminal.until(lambda: "servers, by calls" in terminal.text, "the servers", STARTING)
        assert any(b"PRIVATE KEY" in each.read_bytes() for each in kept.iterdir())
        terminal.send(number)
        assert terminal.ended() == code
        terminal.until(lambda: terminal.is_as_before, "the terminal to be as before")
    assert list(kept.iterdir()) == []


def played(kubeconfig: str, steps: list[tuple[str, bytes]]) -> str:
    """Run `mcpace top` on a terminal; press each key once its words are on the screen."""
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (40, 160))
    environment = os.environ | {"KUBECONFIG": kubeconfig, "TERM": "xterm"}
    process = subprocess.Popen(
        [*MCPACE, "top", "--interval", "1"], env=environment, stdin=theirs, stdout=theirs, stderr=theirs,
        start_new_session=True,
    )  # fmt: skip
    os.close(theirs)
    whole = screen = ""
    try:
        for words, key in steps:
            deadline = time.monotonic() + STARTING
            while words not in screen:
                assert time.monotonic() < deadline, f"waited in vain for {words!r}: {whole}"
                if select.select([ours], [], [], 1.0)[0]:
                    piece = os.read(ours, 65536).decode(errors="replace")
                    screen, whole = screen + piece, whole + piece
            screen = ""
            os.write(ours, key)
        with contextlib.suppress(OSError):  # which is how a terminal says that its last program has ended
            while select.select([ours], [], [], STARTING)[0]:
                whole += os.read(ours, 65536).decode(errors="replace")
        assert process.wait(STARTING) == 0, whole
    finally:
        process.kill()
        process.wait()
        os.close(ours)
    return whole
