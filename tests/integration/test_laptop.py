"""The laptop: `mcpace run`, the tour of `make run`, and what a person is told when something is wrong."""

import os
import shlex
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
import yaml
from tests.conftest import DEADLINE, ROOT, free_port

from mcpace_sidecar.environment import secret

pytestmark = pytest.mark.interpreted

MCPACE = [sys.executable, "-m", "mcpace_cli"]
TOUR = yaml.safe_load((ROOT / "examples/tour.yaml").read_text())


README_COMMAND = (ROOT / "README.md").read_text().splitlines()


def mcpace(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*MCPACE, *map(str, arguments)], capture_output=True, text=True, timeout=DEADLINE)


def manifest(folder: Path, **spec: object) -> tuple[Path, list[str]]:
    """A manifest on ports of its own, and the options that go with it."""
    path = folder / "manifest.yaml"
    path.write_text(yaml.safe_dump(TOUR | {"spec": TOUR["spec"] | {"port": free_port()} | spec}))
    return path, [f"--listen=127.0.0.1:{free_port()}", f"--admin-listen=127.0.0.1:{free_port()}"]


def test_make_run_shows_an_answer_a_hit_and_a_refusal_and_ends_without_a_terminal():
    done = subprocess.run(
        ["make", "run"], cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "12 degrees, cloudy" in done.stdout
    assert "from the cache" in done.stdout
    assert "refused by the tier's limit: retry in" in done.stdout


def test_the_readmes_command_serves_its_manifest_and_ends_both_in_order():
    (command,) = [li for li in README_COMMAND if li.startswith("mcpace run ")]
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    with subprocess.Popen(
        shlex.split(command), cwd=ROOT, env=os.environ | {"PATH": path},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        url = process.stdout.readline().strip()
        assert url == "http://127.0.0.1:18080/mcp", url or process.stderr.read()
        assert urllib.request.urlopen("http://127.0.0.1:18090/readyz", timeout=DEADLINE).status == 200
        process.send_signal(signal.SIGINT)
        assert process.wait(DEADLINE) == 0
        assert "Traceback" not in process.stderr.read()
    with pytest.raises(OSError):
        urllib.request.urlopen("http://127.0.0.1:8000/mcp", timeout=2)


def test_a_server_that_ends_by_itself_ends_run_with_its_words(tmp_path: Path):
    path, options = manifest(tmp_path)
    done = mcpace("run", path, *options, "--", sys.executable, "-c", "raise SystemExit(3)")
    assert done.returncode == 1
    assert "The server ended with exit code 3." in done.stderr


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("kind: Pod", "its kind must be McpServer"),
        ("kind: McpServer\napiVersion: v1", "the apiVersion must be mcpace.dev/v1alpha1"),
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


def test_a_wrong_field_is_named_with_what_to_write(tmp_path: Path):
    path, options = manifest(tmp_path, cache={"tools": [{"name": "t", "ttl": "soon"}]}, colour="red")
    done = mcpace("run", path, *options)
    assert done.returncode == 2
    assert "spec.cache.tools[0].ttl: write a duration such as 500ms, 30s, 5m, 1h or 1d" in done.stderr
    assert "spec.colour" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--config", "/nowhere.yaml"], "/nowhere.yaml: No such file or directory"),
        (["--config", "CONFIG", "--listen", "8080"], "is no HOST:PORT; write for example 127.0.0.1:18080"),
        (["--config", "CONFIG", "--upstream", "ftp://x"], "write for example http://127.0.0.1:8000"),
    ],
)
def test_a_sidecar_that_cannot_start_says_why(tmp_path: Path, arguments: list[str], words: str):
    config = tmp_path / "config.yaml"
    config.write_text("{}")
    done = mcpace("sidecar", *(str(config) if a == "CONFIG" else a for a in arguments))
    assert done.returncode == 2
    assert words in done.stderr


def test_a_taken_port_is_said(tmp_path: Path):
    path, options = manifest(tmp_path)
    port = options[1].rpartition(":")[2]
    done = mcpace("run", path, f"--listen=127.0.0.1:{port}", f"--admin-listen=127.0.0.1:{port}")
    assert done.returncode == 2
    assert "Cannot listen" in done.stderr


def test_the_operator_without_its_key_says_what_is_missing():
    environment = {k: v for k, v in os.environ.items() if not k.startswith("MCPACE_")}
    done = subprocess.run(
        [*MCPACE, "operator"], env=environment, capture_output=True, text=True, timeout=DEADLINE
    )
    assert done.returncode == 2
    assert "MCPACE_MASTER_KEY" in done.stderr


def test_secrets_come_from_files_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "url").write_text("redis://u:p@h:1/0\n")
    monkeypatch.setenv("MCPACE_LIMITS_URL_FILE", str(tmp_path / "url"))
    assert secret("MCPACE_LIMITS_URL") == "redis://u:p@h:1/0"


def test_importing_the_command_line_imports_no_operator_and_no_redis():
    script = "import sys, mcpace_cli.__main__; print(*sys.modules)"
    modules = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True).stdout.split()
    assert not {"kopf", "kubernetes", "redis", "aiohttp", "uvloop"} & set(modules)
