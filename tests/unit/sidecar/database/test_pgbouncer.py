"""PgBouncer's files, made from a database's URI."""

import configparser
import stat
from pathlib import Path
from urllib.parse import quote

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from mcpace_cli.__main__ import mcpace
from mcpace_sidecar.database.pgbouncer import PoolSettings, files
from mcpace_sidecar.errors import ConfigError

POOL = PoolSettings("transaction", 20, "30s", "5s", "30s")


def database(uri: str) -> str:
    parser = configparser.RawConfigParser()
    parser.read_string(files(uri, POOL, Path("/run"))["pgbouncer.ini"])
    return parser["databases"]["mcpace"]


def settings(uri: str = "postgresql://u:p@db/app", pool: PoolSettings = POOL) -> dict[str, str]:
    parser = configparser.RawConfigParser()
    parser.read_string(files(uri, pool, Path("/run"))["pgbouncer.ini"])
    return dict(parser["pgbouncer"])


@pytest.mark.parametrize(
    ("uri", "target"),
    [
        ("postgresql://u:p@db/app", "host='db' port='5432' dbname='app' user='u' password='p'"),
        ("postgres://u:p@db:6543/app", "host='db' port='6543' dbname='app' user='u' password='p'"),
        ("postgresql://u@db/app", "host='db' port='5432' dbname='app' user='u'"),
        (
            "postgresql://us%40er:it%27s%2F%3A@db/my%20app",
            "host='db' port='5432' dbname='my app' user='us@er' password='it''s/:'",
        ),
        ("postgresql://u:p@[::1]:5433/app", "host='::1' port='5433' dbname='app' user='u' password='p'"),
        ("postgresql://u:p@one,two/app", "host='one,two' port='5432' dbname='app' user='u' password='p'"),
    ],
)
def test_a_uri_names_the_database_as_libpq_reads_it(uri: str, target: str):
    assert database(uri) == target


@given(st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=20))
def test_any_password_arrives_as_it_is(password: str):
    text = database(f"postgresql://u:{quote(password, safe='')}@db/app")
    assert text.rpartition(" password='")[2][:-1].replace("''", "'") == password


def test_the_bound_and_the_times_are_the_manifests():
    told = settings(pool=PoolSettings("session", 7, "1m", "500ms", "2m"))
    assert (told["pool_mode"], told["default_pool_size"], told["max_db_connections"]) == (
        "session",
        "7",
        "7",
    )
    assert (told["server_idle_timeout"], told["query_wait_timeout"]) == ("60", "120")
    assert told["server_connect_timeout"] == "1", "0 would be for ever"
    assert int(told["max_prepared_statements"]) > 0


def test_tls_is_as_the_uri_says():
    assert settings()["server_tls_sslmode"] == "prefer"
    strict = settings("postgresql://u:p@db/app?sslmode=verify-full")
    assert strict["server_tls_sslmode"] == "verify-full"
    assert strict["server_tls_ca_file"].endswith("ca-certificates.crt")


@pytest.mark.parametrize(
    ("uri", "words"),
    [
        ("mysql://u:hush@db/app", "must be postgresql://"),
        ("postgresql://u:hush@db", "must be postgresql://"),
        ("postgresql://db/app", "must be postgresql://"),
        ("postgresql://u:hush@db:port/app", "must be postgresql://"),
        ("postgresql://u:hush@db:99999/app", "must be postgresql://"),
        ("postgresql://u:hush@[::1/app", "must be postgresql://"),
        ("postgresql://u:hush%0Aush@db/app", "must be postgresql://"),
        ("postgresql://u:hush@one:1,two:2/app", "one port"),
        ("postgresql://u:hush@db/app?sslmode=maybe", "sslmode"),
        ("hush", "must be postgresql://"),
    ],
)
def test_what_cannot_be_used_is_said_without_quoting_it(uri: str, words: str):
    with pytest.raises(ConfigError, match=words) as raised:
        files(uri, POOL, Path("/run"))
    assert "hush" not in str(raised.value)


def test_the_command_writes_files_for_its_owner_alone(tmp_path: Path):
    arguments = ["pgbouncer", "--out", str(tmp_path / "out"), "--max-connections=5"]
    environment = {"MCPACE_DATABASE_URI": "postgresql://u:p@db/app\n"}
    done = CliRunner().invoke(mcpace, arguments, env=environment)
    assert done.exit_code == 0, done.output
    written = sorted((tmp_path / "out").iterdir())
    assert [path.name for path in written] == ["hba.conf", "pgbouncer.ini", "users.txt"]
    assert {stat.S_IMODE(path.stat().st_mode) for path in written} == {0o600}
    assert "max_db_connections = 5\n" in written[1].read_text()


def test_a_missing_uri_is_said(tmp_path: Path):
    done = CliRunner().invoke(
        mcpace, ["pgbouncer", "--out", str(tmp_path)], env={"MCPACE_DATABASE_URI": ""}
    )
    assert "MCPACE_DATABASE_URI" in str(done.exception)
