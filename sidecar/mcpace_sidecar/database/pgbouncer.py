"""`mcpace pgbouncer`: PgBouncer's files, made from a database's URI before PgBouncer starts.

Source: PgBouncer's configuration (pgbouncer.org/config.html), 1.21 or later; connection URIs as
libpq reads them (PostgreSQL, "Connection URIs").
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import parse_qsl, unquote, urlsplit

from mcpace_sidecar.contract.environment import DATABASE_URI
from mcpace_sidecar.contract.quantity import seconds
from mcpace_sidecar.contract.surface import DATABASE_PORT
from mcpace_sidecar.errors import ConfigError, words_of

WORDS: Final = "the database's uri must be postgresql://user:password@host:port/database"
NAME: Final = "mcpace"
"""The user and the database that the pod's server logs in to, without a password."""
MAX_CLIENTS: Final = 1000
PREPARED: Final = 200
"""Prepared statements kept per connection: in transaction mode too, since PgBouncer 1.21."""

_HBA: Final = """\
host all all 127.0.0.1/32 trust
host all all ::1/128 trust
host all all all reject
"""
_SYSTEM_CERTIFICATES: Final = "/etc/ssl/certs/ca-certificates.crt"
_VERIFYING: Final = ("verify-ca", "verify-full")
_SSL_MODES: Final = ("disable", "allow", "prefer", "require", *_VERIFYING)


@dataclass(frozen=True, slots=True)
class PoolSettings:
    """How connections are pooled; durations as people write them."""

    mode: str
    max_connections: int
    idle_timeout: str
    connect_timeout: str
    wait_timeout: str


def files(uri: str, pool: PoolSettings, folder: Path) -> dict[str, str]:
    """The text of each file, by name. ConfigError for a URI that cannot be used, without quoting it."""
    target, sslmode = _target(uri)
    settings: dict[str, str | int] = {
        "listen_addr": "*",
        "listen_port": DATABASE_PORT,
        "unix_socket_dir": "",
        "auth_type": "hba",
        "auth_hba_file": str(folder / "hba.conf"),
        "auth_file": str(folder / "users.txt"),
        "pool_mode": pool.mode,
        "default_pool_size": pool.max_connections,
        "max_db_connections": pool.max_connections,
        "max_client_conn": MAX_CLIENTS,
        "max_prepared_statements": PREPARED,
        "server_idle_timeout": _whole(pool.idle_timeout),
        "server_connect_timeout": _whole(pool.connect_timeout),
        # A database that is back shall be used at once.
        "server_login_retry": 1,
        "query_wait_timeout": _whole(pool.wait_timeout),
        "ignore_startup_parameters": "extra_float_digits",
        "log_connections": 0,
        "log_disconnections": 0,
        "server_tls_sslmode": sslmode,
    }
    if sslmode in _VERIFYING:
        settings["server_tls_ca_file"] = _SYSTEM_CERTIFICATES
    lines = [f"{name} = {value}" for name, value in settings.items()]
    database = " ".join(f"{name}='{_quoted(value)}'" for name, value in target.items())
    return {
        "pgbouncer.ini": f"[databases]\n{NAME} = {database}\n\n[pgbouncer]\n" + "\n".join(lines) + "\n",
        "hba.conf": _HBA,
        "users.txt": f'"{NAME}" ""\n',
    }


def write(uri: str | None, pool: PoolSettings, folder: Path) -> None:
    """Write the files, for their owner alone to read. ConfigError."""
    if uri is None:
        raise ConfigError(f"{DATABASE_URI} (or {DATABASE_URI}_FILE) is missing")
    written = files(uri.strip(), pool, folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in written.items():
            path = folder / name
            path.touch(mode=0o600)
            path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{folder}: {words_of(error)}") from error


def _target(uri: str) -> tuple[dict[str, str], str]:
    try:
        parts = urlsplit(uri)
        credential, _, hosts = parts.netloc.rpartition("@")
        user, _, password = map(unquote, credential.partition(":"))
        query = dict(parse_qsl(parts.query))
        places = [_place(host) for host in hosts.split(",")]
    except ValueError:
        raise ConfigError(WORDS) from None
    name = unquote(parts.path.removeprefix("/"))
    ports = {port for _, port in places}
    if parts.scheme not in ("postgresql", "postgres") or not user or not name or not places[0][0]:
        raise ConfigError(WORDS)
    if len(ports) > 1:
        raise ConfigError("the hosts of the database's uri must have one port")
    sslmode = query.get("sslmode", "prefer")
    if sslmode not in _SSL_MODES:
        raise ConfigError(f"the sslmode of the database's uri must be one of {', '.join(_SSL_MODES)}")
    target = {
        "host": ",".join(host for host, _ in places),
        "port": ports.pop(),
        "dbname": name,
        "user": user,
        "password": password,
    }
    if any("\n" in value or "\r" in value for value in target.values()):
        raise ConfigError(WORDS)
    return {key: value for key, value in target.items() if value}, sslmode


def _place(host: str) -> tuple[str, str]:
    address, bracket, rest = host.rpartition("]")
    name, _, port = rest.partition(":")
    if port and not 0 < int(port) < 65536:
        raise ValueError(port)
    return (address.removeprefix("[") if bracket else name), port or "5432"


def _quoted(value: str) -> str:
    return value.replace("'", "''")


def _whole(duration: str) -> int:
    """Seconds as PgBouncer takes them: whole, and at least one, because none is for ever."""
    return max(1, round(seconds(duration)))
