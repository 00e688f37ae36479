"""The laptop: `make run`, the README's commands, what is read of a manifest, and what a reload says."""

import base64
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import time
import urllib.request
from pathlib import Path

import pytest
import yaml
from tests.kit.installed import UV
from tests.kit.laptop import WEATHER, manifest, mcpace, port_of, running, wait_for
from tests.kit.programs import ROOT
from tools.ports import free_port

from mcpace_cli import processes
from mcpace_sidecar.contract.environment import LIMITS_URL

README = (ROOT / "README.md").read_text()
(README_RUN,) = re.findall(r"```sh\n(\S+/mcpace run .*?)```", README, re.DOTALL)
(README_CALL,) = re.findall(r"```sh\n(\S+/mcpace call .*?)```", README, re.DOTALL)
(README_MANIFEST,) = re.findall(r"```yaml\n(.*?)```", README, re.DOTALL)
PAGE = (ROOT / "docs/laptop.md").read_text()
PAGE_MANIFESTS = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
PAGE_LINES = re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)
SHOWN_URL = "http://127.0.0.1:18080/mcp"
KEYS = [{"tier": "pro", "secretRef": {"name": "weather-pro"}}]
SHOW = [sys.executable, "-c", "import os; print('seen', {n: os.environ.get(n) for n in 'ABCDEF'})"]


def a_secret(name: str = "weather-pro", **data: str) -> dict[str, object]:
    encoded = {key: base64.b64encode(value.encode()).decode() for key, value in data.items()}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "data": encoded}


def cloned(folder: Path) -> Path:
    """The checkout as somebody else gets it, with what is not committed yet."""
    subprocess.run(["git", "clone", "--quiet", ROOT, folder], check=True)
    changed = ["git", "ls-files", "--modified", "--others", "--exclude-standard"]
    for name in subprocess.run(
        changed, cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.splitlines():
        there = folder / name
        there.unlink(missing_ok=True)
        if (ROOT / name).exists():
            there.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, there)
    return folder


def test_a_fresh_clone_answers_within_a_minute_of_its_dependencies_and_ends_without_a_terminal(
    tmp_path: Path,
):
    clone = cloned(tmp_path / "mcpace")
    ours = ("UV_PROJECT_ENVIRONMENT", "VIRTUAL_ENV")
    around = {name: value for name, value in os.environ.items() if name not in ours}
    around["PATH"] = os.pathsep.join((str(Path(UV).parent), around["PATH"]))
    installed = subprocess.run(
        ["make", ".venv/installed"], cwd=clone, env=around, capture_output=True, text=True, timeout=250
    )
    assert installed.returncode == 0, installed.stdout + installed.stderr
    began = time.monotonic()
    done = subprocess.run(
        ["make", "run"], cwd=clone, env=around, stdin=subprocess.DEVNULL, capture_output=True, text=True,
        timeout=60,
    )  # fmt: skip
    print(f"make run took {time.monotonic() - began:.1f} s")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "12 degrees, cloudy" in done.stdout
    assert "from the cache" in done.stdout
    assert "refused by the tier's limit: retry in" in done.stdout


def test_tours_at_once_take_no_ports_from_each_other():
    tours = [
        subprocess.Popen(
            [sys.executable, "examples/tour.py"], cwd=ROOT, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )
        for _ in range(3)
    ]  # fmt: skip
    said = [tour.communicate(timeout=110)[0] for tour in tours]
    assert [tour.returncode for tour in tours] == [0, 0, 0], "\n".join(said)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT])
def test_a_tour_that_is_broken_off_leaves_nothing(number: signal.Signals):
    with subprocess.Popen(
        [sys.executable, "examples/tour.py"],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as tour:
        said = ""
        while "Starting the server: " not in said:
            line = tour.stderr.readline()
            assert line, said
            said += line
        started = sessions_below(tour.pid)
        assert started
        tour.send_signal(number)
        code = tour.wait(60)
        said += tour.stderr.read()
    assert code == 130, said
    assert "Traceback" not in said, said
    left = {leader: processes.session(leader) for leader in started}
    assert not any(left.values()), f"{left} live on; it said:\n{said}"


def sessions_below(pid: int) -> set[int]:
    """The sessions of what a process has started, and of what that has."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    below = {os.getsid(int(child)) for child in children}
    return below.union(*(sessions_below(int(child)) for child in children))


@pytest.mark.parametrize("bare", [True, False])
def test_the_readmes_commands_serve_its_manifest_and_end_both_in_order(tmp_path: Path, bare: bool):
    """Typed as they stand, in a folder that holds what they name; the server has a port of its own."""
    (tmp_path / "server.py").symlink_to(ROOT / "examples/weather/server.py")
    document = yaml.safe_load(README_MANIFEST)
    document["spec"] = ({} if bare else document["spec"]) | {"port": free_port()}
    (tmp_path / "my.yaml").write_text(yaml.safe_dump(document))
    (tmp_path / ".venv").symlink_to(sys.prefix)
    with subprocess.Popen(
        ["sh", "-ec", f"exec {README_RUN}"], cwd=tmp_path, env=found_by_a_shell(),
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        url = process.stdout.readline().strip()
        assert re.fullmatch(r"http://127\.0\.0\.1:[0-9]+/mcp", url), url or process.stderr.read()
        called = typed(README_CALL.replace(SHOWN_URL, url), tmp_path)
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0
        said = process.stderr.read()
    assert "get-weather\t" in called.stdout, called.stderr
    assert "Traceback" not in said
    (admin,) = re.findall(r"http://(\S+)/metrics", said)
    assert admin != url.split("/")[2]


def test_the_page_that_is_named_judges_the_checklist_by_the_whole_manifest(tmp_path: Path):
    path = manifest(tmp_path, rateLimits={}, env=[{"name": "DATABASE_URL", "value": "x"}])
    with running(tmp_path, path, "--", *WEATHER) as run:
        run.url()
        (page,) = re.findall(r"A page to look at: (http://\S+/) ", run.said)
        with urllib.request.urlopen(page) as answer:
            assert b"<title>mcpace</title>" in answer.read()
        with urllib.request.urlopen(f"{page}stats?recent") as answer:
            items = {item["name"]: item for item in json.load(answer)["checklist"]}
        assert len(items) == 10
        assert items["DatabaseConnectionsPooled"]["result"] == "Failed", "env is no part of a sidecar's"
        assert items["HealthChecksConfigured"]["result"] == "Passed"
        with urllib.request.urlopen(f"{page}config") as answer:
            lines = json.load(answer)["lines"]
        written = path.read_text().splitlines()
        assert written[lines["rateLimits"] - 1].strip() == "rateLimits: {}"
        assert written[lines["env[0].value"] - 1].strip(" -") == "value: x"
        path.write_text("# a line more\n" + path.read_text().replace("DATABASE_URL", "OTHER"))

        def judged_anew() -> bool:
            with urllib.request.urlopen(f"{page}stats?recent") as answer:
                found = {item["name"]: item["result"] for item in json.load(answer)["checklist"]}
            return found["DatabaseConnectionsPooled"] == "Unknown"

        wait_for(judged_anew, "the changed manifest to be judged")
        with urllib.request.urlopen(f"{page}config") as answer:
            assert json.load(answer)["lines"]["rateLimits"] == lines["rateLimits"] + 1


def found_by_a_shell() -> dict[str, str]:
    """The environment of one that finds `mcpace`, and a `python` with what the example server needs."""
    return os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}


def typed(lines: str, folder: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """Lines as a person types them."""
    return subprocess.run(
        ["sh", "-ec", lines], cwd=folder, env=found_by_a_shell(), stdin=subprocess.DEVNULL,
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip


def test_the_pages_manifests_are_run_and_called_as_it_says(tmp_path: Path):
    smallest, keyed = PAGE_MANIFESTS
    (start, first), second = PAGE_LINES[0].split("\n", 1), PAGE_LINES[1]
    assert start.startswith("mcpace run weather.yaml -- ")
    path = tmp_path / "weather.yaml"
    path.write_text(smallest.replace("spec: {}", f"spec: {{port: {free_port()}}}"))
    with running(tmp_path, path, "--", *WEATHER) as run:
        called = typed(first.replace(SHOWN_URL, run.url()))
        assert "get-weather\t" in called.stdout, called.stderr
        assert '"city": "Oslo"' in called.stdout
    path.write_text(keyed.replace("spec:\n", f"spec:\n  port: {free_port()}\n", 1))
    with running(tmp_path, path, "--", *WEATHER) as run:
        called = typed(second.replace(SHOWN_URL, run.url()))
        assert '"city": "Oslo"' in called.stdout, called.stderr
        guessed = typed(second.replace(SHOWN_URL, run.url()).replace("at-random", "by-guess"))
        assert "MCPACE_API_KEY" in guessed.stderr


def test_the_sdist_holds_what_a_wheel_is_built_from_and_nothing_else(tmp_path: Path):
    done = subprocess.run(
        [UV, "build", "--sdist", "--quiet", "--out-dir", tmp_path],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    (archive,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(archive) as packed:
        names = {name.partition("/")[2] for name in packed.getnames()}
    tops = {name.partition("/")[0] for name in names}
    assert tops == {
        "sidecar",
        "operator",
        "cli",
        "compile.py",
        "README.md",
        "LICENSE",
        "pyproject.toml",
        "PKG-INFO",
        ".gitignore",
    }
    assert "sidecar/mcpace_sidecar/call/exchange.py" in names
    assert not [name for name in names if "test" in name]


def test_env_and_its_references_reach_whatever_is_started(tmp_path: Path):
    path = manifest(
        tmp_path,
        a_secret("s", k="from-secret"),
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}, "data": {"D": "from-map"}},
        env=[
            {"name": "A", "value": "plain"},
            {"name": "B", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}},
            {"name": "C", "value": "$(A) and $$(A) and $(NONE)"},
            {"name": "E", "valueFrom": {"secretKeyRef": {"name": "gone", "key": "k"}}},
            {"name": "F", "valueFrom": {"configMapKeyRef": {"name": "gone", "key": "k", "optional": True}}},
        ],
        envFrom=[{"configMapRef": {"name": "c"}}, {"secretRef": {"name": "nowhere"}}],
    )
    done = mcpace("run", path, "--", *SHOW, E="mine")
    seen = "seen {'A': 'plain', 'B': 'from-secret', 'C': 'plain and $(A) and $(NONE)', 'D': 'from-map', 'E': 'mine', 'F': None}"
    assert seen in done.stderr
    assert "spec.env E: the key k of the Secret gone is not in the file" in done.stderr
    assert "spec.envFrom[1]: the Secret nowhere is not in the file" in done.stderr
    assert "env F" not in done.stderr


def test_the_manifests_command_is_started_where_nothing_listens(tmp_path: Path):
    path = manifest(tmp_path, command=SHOW[:1], args=[*SHOW[1:], "$(A)"], env=[{"name": "A", "value": "x"}])
    done = mcpace("run", path)
    assert "seen {'A': 'x'" in done.stderr
    done = mcpace("run", path, "--", sys.executable, "-c", "print('another')")
    assert "another" in done.stderr
    assert "seen" not in done.stderr
    assert "The command given is started, not spec.command and spec.args" in done.stderr


def test_a_command_that_is_only_in_the_image_is_said_to_be(tmp_path: Path):
    done = mcpace("run", manifest(tmp_path, command=["/app/server"]))
    assert done.returncode == 2
    assert "Cannot start '/app/server': No such file or directory (spec.command)" in done.stderr
    assert "after --" in done.stderr


def test_what_only_a_cluster_does_is_said_once(tmp_path: Path):
    path = manifest(
        tmp_path,
        {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "other"}},
        replicas=2,
        database={"secretRef": {"name": "db"}},
        networkPolicy={},
    )
    done = mcpace("run", path, "--", "true")
    assert done.stderr.count("Only a cluster does something about: database (no PgBouncer is started") == 1
    assert "networkPolicy" in done.stderr
    assert "replicas (one runs)" in done.stderr
    assert "Only a cluster does something about: Deployment other" in done.stderr


def test_tiers_that_are_not_written_are_named_with_their_numbers(tmp_path: Path):
    numbers = "free: 10 a minute, 100 a day; pro: 60 a minute, 10,000 a day; enterprise: 300 a minute, 1,000,000 a day"
    assert f"by these: {numbers}" in mcpace("run", manifest(tmp_path, rateLimits={}), "--", "true").stderr
    tiers = [{"name": "free", "requestsPerMinute": 10}]
    for written in ({"rateLimits": {"tiers": tiers}}, {}):
        assert "10 a minute" not in mcpace("run", manifest(tmp_path, **written), "--", "true").stderr
    assert f"Where not set: {numbers}." in (ROOT / "docs/reference.md").read_text()


def test_no_image_is_needed(tmp_path: Path):
    path = manifest(tmp_path)
    document = yaml.safe_load(path.read_text())
    del document["spec"]["image"]
    path.write_text(yaml.safe_dump(document))
    done = mcpace("run", path, "--", "true")
    assert "spec.image is missing: a cluster will want it" in done.stderr
    assert "The server ended" in done.stderr


def test_keys_come_from_the_secrets_of_the_same_file_and_stay_there(tmp_path: Path):
    tiers = [{"name": "free", "requestsPerMinute": 1}, {"name": "pro", "requestsPerMinute": 600}]
    path = manifest(
        tmp_path, a_secret(anna="key-of-anna"), clients={"apiKeys": KEYS, "anonymous": "deny"}, rateLimits={"tiers": tiers},
    )  # fmt: skip
    (tmp_path / "run").mkdir()
    with running(tmp_path, path, "--", *WEATHER, XDG_RUNTIME_DIR=str(tmp_path / "run")) as run:
        url = run.url()
        assert mcpace("call", url, "get-weather", "city=Oslo", MCPACE_API_KEY="key-of-anna").returncode == 0
        assert "A credential is required" in mcpace("call", url, "get-weather", "city=Oslo").stderr
        assert "Read from the same file: Secret weather-pro" in run.said
        assert "key-of-anna" not in run.said
    assert list((tmp_path / "run").iterdir()) == []


def test_keys_that_are_not_there_are_named(tmp_path: Path):
    done = mcpace("run", manifest(tmp_path, clients={"apiKeys": KEYS}), "--", "true")
    assert "without the Secret weather-pro its clients are unknown" in done.stderr
    assert "--keys DIR" in done.stderr


def test_a_file_of_several_servers_asks_which_one_a_command_starts(tmp_path: Path):
    path = manifest(tmp_path)
    other = yaml.safe_load(path.read_text()) | {"metadata": {"name": "tides"}}
    path.write_text(path.read_text() + "---\n" + yaml.safe_dump(other) + "---\n")
    assert "choose one by --name: weather, tides" in mcpace("run", path, "--", "true").stderr
    assert "did you mean tides?" in mcpace("run", path, "--name", "tide").stderr
    assert "The server ended" in mcpace("run", path, "--name", "tides", "--", "true").stderr


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("kind: Pod", "holds no McpServer: its kind must be McpServer, not Pod"),
        ("", "and it is empty"),
        ("- a", "it holds a list, not fields"),
        ("kind: McpServer\napiVersion: v1", "the apiVersion must be mcpace.dev/v1alpha1, not v1"),
        ("kind: McpServer\napiVersion: mcpace.dev/v1alpha1", "metadata.name: is required, and missing"),
        ("{", "is not YAML"),
    ],
)
def test_what_is_no_manifest_is_refused_in_words(tmp_path: Path, text: str, words: str):
    path = tmp_path / "manifest.yaml"
    path.write_text(text)
    done = mcpace("run", path)
    assert done.returncode == 2
    assert words in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("data", "words"),
    [({"a": "%"}, "Secret s: data.a is no base64"), ({"a": 5}, 'data.a: write text, in quotes: "5"'), ({"../a": ""}, "a key must be")],
)  # fmt: skip
def test_a_secret_that_is_none_is_refused_in_words(tmp_path: Path, data: dict, words: str):
    path = manifest(tmp_path, a_secret("s") | {"data": data})
    done = mcpace("run", path)
    assert done.returncode == 2
    assert words in done.stderr


def test_a_reload_says_line_by_line_what_changed_and_what_takes_a_new_start(tmp_path: Path):
    tier = {"name": "free", "requestsPerMinute": 10, "requestsPerDay": 100}
    path = manifest(tmp_path, rateLimits={"tiers": [tier]})
    with running(tmp_path, path, "--", *WEATHER) as run:
        run.url()
        before = port_of(path)
        text = path.read_text().replace("requestsPerMinute: 10", "requestsPerMinute: 20")
        text = text.replace("requestsPerDay: 100", "requestsPerDay: 200")
        path.write_text(text.replace(f"port: {before}", f"port: {before + 1}"))
        run.until_said("The configuration was reloaded: rateLimits.tiers[0].requestsPerMinute: 10 -> 20\n")
        run.until_said("The configuration was reloaded: rateLimits.tiers[0].requestsPerDay: 100 -> 200\n")
        assert (
            f"spec.port has changed: {before} -> {before + 1}; start mcpace run again to take it"
            in run.said
        )
        lines = path.read_text().splitlines()
        (number,) = [number for number, line in enumerate(lines) if line.startswith("spec:")]
        path.write_text("\n".join([*lines[: number + 1], "  replica: 2", *lines[number + 1 :]]))
        run.until_said("The new configuration is refused, the old one stays")
        run.until_said(f"  line {number + 2}, column 3: spec.replica: there is no such field")
        path.write_text("spec: [")
        run.until_said(f"{path}, line 1, column 8 is not YAML: ")


def test_secrets_come_from_files_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "url").write_text("redis://u:p@h:1/0\n")
    monkeypatch.setenv("MCPACE_LIMITS_URL_FILE", str(tmp_path / "url"))
    assert LIMITS_URL.read() == "redis://u:p@h:1/0"


def test_importing_the_command_line_imports_no_operator_and_no_redis():
    script = "import sys, mcpace_cli.__main__; print(*sys.modules)"
    modules = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True).stdout.split()
    assert not {"kopf", "kubernetes", "redis", "aiohttp", "uvloop"} & set(modules)
