"""The preStop: it asks the sidecar of its pod to drain, with the token, and says why where it cannot."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from tools.ports import free_port

from mcpace_sidecar import drain


class Admin:
    """An admin port that answers as a test says."""

    def __init__(self) -> None:
        self.status = 200
        self.heard: list[tuple[str, str, str | None]] = []
        admin = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                admin.heard.append((self.command, self.path, self.headers["Authorization"]))
                self.send_response(admin.status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()


@pytest.fixture
def admin(monkeypatch: pytest.MonkeyPatch) -> Iterator[Admin]:
    admin = Admin()
    monkeypatch.setenv("MCPACE_ADMIN_TOKEN", "a-token")
    monkeypatch.setattr("sys.argv", ["drain", str(admin.server.server_address[1])])
    yield admin
    admin.server.shutdown()
    admin.server.server_close()


def test_it_asks_once_with_the_token(admin: Admin) -> None:
    assert drain.main() == 0
    assert admin.heard == [("POST", "/drain", "Bearer a-token")]


@pytest.mark.parametrize("status", [401, 404, 503])
def test_an_answer_that_is_no_yes_is_told(
    admin: Admin, capsys: pytest.CaptureFixture[str], status: int
) -> None:
    admin.status = status
    assert drain.main() == 1
    told = capsys.readouterr().err
    assert f"HTTP {status}" in told
    assert "a-token" not in told


def test_a_sidecar_that_is_not_there_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["drain", str(free_port())])
    assert drain.main() == 1
    assert capsys.readouterr().err.startswith("The sidecar was not reached: ")
