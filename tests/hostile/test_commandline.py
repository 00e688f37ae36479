"""What is typed wrong on the command line is answered with what to type instead, and never by a traceback."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.kit.laptop import MCPACE, manifest, mcpace
from tests.kit.upstream import Scripted, json_answer
from tools.ports import free_port

from mcpace_operator.masterkey import MasterKey


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--port", "3000", "MANIFEST"], "--port is for a command without a manifest, where it is `port`."),
        (["--port", "3000", "MANIFEST"], "What belongs to the server's command goes after --."),
        (["MANIFEST", "--lissten", "127.0.0.1:1"], "--listen"),
        (["python", "server.py"], "python: no such file; write mcpace run MANIFEST -- COMMAND"),
        (["nowhere.yaml"], "nowhere.yaml: no such file"),
        (["MANIFEST", "--keys", "nowhere"], "'nowhere' does not exist"),
        (["MANIFEST", "--listen", "8080"], "is no HOST:PORT; write for example 127.0.0.1:18080"),
        (["MANIFEST", "--listen", "127.0.0.1:²"], "is no HOST:PORT"),
        (["MANIFEST", "--listen", "nowhere.invalid:80"], "Cannot listen on nowhere.invalid:80"),
        (
            ["MANIFEST", "--", "no-such-program"],
            "Cannot start 'no-such-program': No such file or directory",
        ),
    ],
)
def test_a_wrong_run_says_what_to_type(tmp_path: Path, arguments: list[str], words: str):
    path = manifest(tmp_path)
    done = mcpace("run", *(str(path) if each == "MANIFEST" else each for each in arguments))
    assert done.returncode == 2, done.stderr
    assert words in done.stderr
    assert "Traceback" not in done.stderr


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


@pytest.mark.parametrize(
    "result",
    [
        b'{"_meta":[1]}',
        b'{"supportedVersions":5}',
        b'{"tools":5}',
        b'{"tools":[1,{"description":"nameless"}]}',
        b'{"capabilities":[],"_meta":{"io.modelcontextprotocol/serverInfo":[1,2]}}',
    ],
)
async def test_a_server_that_answers_oddly_is_called_without_a_traceback(scripted: Scripted, result: bytes):
    scripted.answer = lambda _: json_answer(b'{"jsonrpc":"2.0","id":1,"result":%b}' % result)
    done = await asyncio.to_thread(mcpace, "call", f"http://127.0.0.1:{scripted.port}/mcp")
    assert "Traceback" not in done.stderr, done.stderr
    assert (done.returncode, done.stderr.count("\n")) in ((0, 0), (2, 1)), done.stderr


@pytest.mark.parametrize("flag", ["--listen", "--admin-listen"])
@pytest.mark.parametrize("command", ["run", "sidecar"])
def test_a_taken_port_names_the_option_that_asked_for_it(
    tmp_path: Path, flag: str, command: str, weather: int
):
    other = "--admin-listen" if flag == "--listen" else "--listen"
    ports = [f"{flag}=127.0.0.1:{weather}", f"{other}=127.0.0.1:{free_port()}"]
    (tmp_path / "config.yaml").write_text("{}")
    place = manifest(tmp_path) if command == "run" else f"--config={tmp_path / 'config.yaml'}"
    done = mcpace(command, place, *ports)
    assert done.returncode == 2
    assert (
        f"Cannot listen on 127.0.0.1:{weather}: address already in use; choose another by {flag}\n"
        in done.stderr
    )


def test_one_port_for_two_purposes_is_refused(tmp_path: Path):
    port = free_port()
    twice = mcpace(
        "run", manifest(tmp_path), f"--listen=127.0.0.1:{port}", f"--admin-listen=127.0.0.1:{port}"
    )
    assert f"--listen and --admin-listen are both 127.0.0.1:{port}" in twice.stderr
    servers = mcpace("run", manifest(tmp_path, port=port), f"--admin-listen=127.0.0.1:{port}")
    assert f"--admin-listen 127.0.0.1:{port} is the server's own port" in servers.stderr


def test_the_help_says_which_servers_are_meant():
    assert "of streamable HTTP, of the older pair with SSE, or of stdio" in " ".join(
        mcpace("--help").stdout.split()
    )


def operator(**environment: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("MCPACE_")}
    return subprocess.run(
        [*MCPACE, "operator"], env=clean | environment, capture_output=True, text=True, timeout=60
    )


@pytest.mark.parametrize("port", ["x", "0", "65536", "²", "-1"])
def test_an_operators_port_that_is_none_is_said(port: str):
    done = operator(MCPACE_HEALTH_PORT=port, MCPACE_MASTER_KEY="k" * 32, MCPACE_RELEASE_SECRET="x")
    assert done.returncode == 2
    assert "MCPACE_HEALTH_PORT is no port: write a number from 1 to 65535" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_operator_without_its_extra_says_what_to_install(tmp_path: Path):
    """The interpreter is told that there is no kopf."""
    code = (
        "import sys; sys.modules['kopf'] = None\n"
        "from mcpace_cli.__main__ import main; sys.argv = ['mcpace', 'operator']; main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 2, done.stderr
    assert "The operator needs kopf, which comes with pip install '.[operator]'" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "environment", "words"),
    [
        (["call", "http://127.0.0.1:99999/mcp"], {}, "is no URL; write for example"),
        (["call", "http://[::1/mcp"], {}, "is no URL"),
        (["call", "http://x:y/"], {}, "is no URL"),
        (["call", ""], {}, "is no URL"),
        (["call", "ftp://x/"], {}, "is no URL"),
        (["call", "http://nowhere.invalid/mcp"], {}, "(name or service not known)"),
        (["call", "http://127.0.0.1:1/mcp", "--wait", "-5s"], {}, "write a duration such as"),
        (["call", "http://127.0.0.1:1/mcp"], {"MCPACE_API_KEY": "a\nHost: x"}, "MCPACE_API_KEY holds what no key can"),
        (["call", "http://127.0.0.1:1/mcp"], {"MCPACE_API_KEY": "schlüssel"}, "MCPACE_API_KEY holds what no key can"),
        (["call", "http://127.0.0.1:1/mcp"], {"MCPACE_TOKEN": "a\nHost: x"}, "MCPACE_TOKEN holds what no token can"),
        (["call", "http://127.0.0.1:1/mcp"], {"MCPACE_API_KEY_FILE": "/"}, "mcpace: MCPACE_API_KEY_FILE: /: Is a directory"),
        (["call", "http://127.0.0.1:1/mcp"], {"MCPACE_API_KEY_FILE": "BINARY"}, "is no text in UTF-8"),
        (["call", "http://127.0.0.1:1/mcp", "--api-key-header", "a b"], {}, "--api-key-header 'a b': apiKeyHeader: write a header's name"),
        (["call", "http://127.0.0.1:1/mcp", "--api-key-header", "authorization"], {"MCPACE_API_KEY": "a", "MCPACE_TOKEN": "b"}, "would both go into the header"),
        (["call", "http://127.0.0.1:1/mcp", "--manifest", "BINARY"], {}, "is not UTF-8"),
        (["sidecar", "--config", "CONFIG", "--upstream", "http://[::1"], {}, "is no HOST:PORT"),
        (["sidecar", "--config", "CONFIG", "--listen", "127.0.0.1:1:2"], {}, "is no HOST:PORT"),
        (["sidecar", "--config", "BINARY"], {}, "is not UTF-8"),
        (["sidecar", "--config", "/"], {}, "is a directory"),
        (["pgbouncer", "--out", "OUT"], {}, "MCPACE_DATABASE_URI"),
        (["pgbouncer", "--out", "OUT", "--idle-timeout", "x"], {}, "write a duration such as"),
        (["pgbouncer", "--out", "OUT", "--pool-mode", "x"], {}, "'transaction', 'session', 'statement'"),
        (["pgbouncer", "--out", "/proc/x"], {"MCPACE_DATABASE_URI": "postgresql://u:p@h/d"}, "no such file or directory"),
        (["run", "BINARY"], {}, "is not UTF-8"),
        (["run", "/dev/null"], {}, "and it is empty"),
        (["run", ""], {}, ".: Is a directory"),
        (["rum"], {}, "Did you mean 'run'"),
    ],
)  # fmt: skip
def test_whatever_is_typed_is_answered_in_words(tmp_path: Path, arguments, environment, words):
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    (tmp_path / "config.yaml").write_text("{}")
    places = {"BINARY": tmp_path / "binary", "CONFIG": tmp_path / "config.yaml", "OUT": tmp_path / "out"}
    given = {name: str(places.get(value, value)) for name, value in environment.items()}
    done = mcpace(*(places.get(each, each) for each in arguments), **given)
    assert done.returncode == 2, done.stderr
    assert words in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({"MCPACE_CALLERS": "x"}, "MCPACE_CALLERS is no JSON"),
        ({"MCPACE_CALLERS": "[1]"}, "MCPACE_CALLERS must be a list of objects"),
        ({"MCPACE_MONITOR_LABELS": "[]"}, "MCPACE_MONITOR_LABELS must be an object"),
        ({"MCPACE_IDENTITY": "x"}, "go together"),
        ({"KUBECONFIG": "/nowhere"}, "No cluster is known: "),
    ],
)
def test_an_operators_environment_that_is_wrong_is_said(environment: dict[str, str], words: str):
    done = operator(MCPACE_MASTER_KEY="k" * 32, **environment)
    assert done.returncode == 2, done.stderr
    assert words in done.stderr
    assert "Traceback" not in done.stderr


KEY = "0123456789abcdef0123456789abcdef"


@pytest.mark.parametrize(
    ("arguments", "environment", "words"),
    [
        (["run", "MANIFEST"], {"XDG_RUNTIME_DIR": "/nowhere"}, "No such file or directory"),
        (
            ["login", "--store=limits", "--key=FOLDER", "--users=/nowhere/users"],
            {},
            "/nowhere/users: No such",
        ),
        (["login", "--store=limits", "--key=BINARY", "--users=FOLDER/users"], {}, "master key is no text"),
        (["operator"], {"MCPACE_MASTER_KEY": "\udcff" * 40}, "master key is no text"),
        (["operator"], {"MCPACE_MASTER_KEY": KEY, "KUBECONFIG": "BINARY/current"}, "is no kubeconfig"),
        (["operator"], {"MCPACE_MASTER_KEY": KEY, "KUBECONFIG": "MANIFEST"}, "No cluster is known"),
    ],
)
def test_what_cannot_be_read_or_written_is_said_in_a_line(
    tmp_path: Path, arguments: list[str], environment: dict[str, str], words: str
):
    for name, content in (("text", KEY.encode()), ("binary", bytes(range(128, 168)))):
        (tmp_path / name).mkdir()
        (tmp_path / name / "current").write_bytes(content)
    places = {
        "MANIFEST": str(manifest(tmp_path)), "FOLDER": str(tmp_path / "text"), "BINARY": str(tmp_path / "binary"),
    }  # fmt: skip

    def placed(text: str) -> str:
        for word, place in places.items():
            text = text.replace(word, place)
        return text

    done = subprocess.run(
        [*MCPACE, *map(placed, arguments)],
        env=os.environ | {name: placed(value) if name == "KUBECONFIG" else value for name, value in environment.items()},
        capture_output=True,
        text=True,
        timeout=60,
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_a_master_key_that_ends_with_a_newline_is_one_and_the_same_to_the_operator_and_to_redis(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "current").write_text(f"{KEY}\n")
    monkeypatch.setenv("MCPACE_MASTER_KEY", f"{KEY}\n")  # as a container is given it by a secretKeyRef
    mounted, given = MasterKey.from_folder(tmp_path), MasterKey.from_environment()
    assert mounted is not None
    assert given is not None
    assert mounted.administering("limits") == given.administering("limits")
