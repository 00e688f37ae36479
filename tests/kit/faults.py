"""A proxy between a client and the API server that counts requests, and breaks what a test says.

Plain HTTP on the loopback; it speaks to the API server with the certificate it is given.
"""

from __future__ import annotations

import asyncio
import ssl
import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import aiohttp
import yaml
from aiohttp import web
from tools.cluster.controlplane import ControlPlane
from yarl import URL

Fault = Callable[[web.Request], web.StreamResponse | None]
_HOP = ("host", "content-length", "transfer-encoding", "connection", "accept-encoding", "content-encoding")
WRITES = ("POST", "PUT", "PATCH", "DELETE")


def is_watch(request: web.Request) -> bool:
    return request.query.get("watch") == "true"


def is_lease(request: web.Request) -> bool:
    return "/leases" in request.path


def status(code: int, words: str = "made to fail", **headers: str) -> web.Response:
    """What the API server says when it refuses."""
    body = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": words, "code": code}
    return web.json_response(body, status=code, headers=headers)


class FaultyProxy:
    """`fault` may answer a request in the API server's place; `seen` is told of each one passed on.

    Both are called in the proxy's thread.
    """

    def __init__(self, plane: ControlPlane, folder: Path) -> None:
        self.fault: Fault = lambda _: None
        self.seen: Callable[[web.Request, int], Any] = lambda _, __: None
        self.requests: Counter[tuple[str, str]] = Counter()
        """(verb or "WATCH", path) -> how many."""
        self.kubeconfig = folder / "faulty.kubeconfig"
        self._plane = plane
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._tasks: set[asyncio.Task[Any]] = set()
        self._runner: web.AppRunner | None = None
        self._session: aiohttp.ClientSession | None = None

    def start(self) -> None:
        """Serve, in a thread of its own: tests block their loop, as people who wait for kubectl do."""
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._start(), self._loop).result(30)

    def stop(self) -> None:
        """End every connection."""
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result(30)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _start(self) -> None:
        pki = self._plane.authority.folder
        context = ssl.create_default_context(cafile=str(self._plane.authority.ca))
        context.load_cert_chain(pki / "admin.crt", pki / "admin.key")
        self._session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context, limit=0))
        app = web.Application(client_max_size=16 << 20)
        app.router.add_route("*", "/{path:.*}", self._serve)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        host, port = self._runner.addresses[0][:2]
        document = yaml.safe_load(self._plane.kubeconfig.read_text())
        document["clusters"][0]["cluster"] = {"server": f"http://{host}:{port}"}
        document["users"][0]["user"] = {}
        self.kubeconfig.write_text(yaml.safe_dump(document))

    async def _stop(self) -> None:
        self._cut()
        if self._runner is not None:
            await self._runner.cleanup()
        if self._session is not None:
            connector = self._session.connector
            assert connector is not None
            await connector.close(abort_ssl=True)  # an orderly end of TLS would outlive the loop
            await self._session.close()
        for _ in range(5):
            await asyncio.sleep(0)  # transports that were closed end in a later turn of the loop

    def drop_watches(self) -> None:
        """Cut every watch that is open now."""
        self._loop.call_soon_threadsafe(self._cut)

    def _cut(self) -> None:
        for task in list(self._tasks):
            task.cancel()

    def writes(self) -> int:
        """Writes so far, without those of leases."""
        return sum(
            count
            for (verb, path), count in self.requests.items()
            if verb in WRITES and "/leases" not in path
        )

    def watches(self) -> int:
        """Watches opened so far."""
        return sum(count for (verb, _), count in self.requests.items() if verb == "WATCH")

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        self.requests["WATCH" if is_watch(request) else request.method, request.path] += 1
        answer = self.fault(request)
        if answer is not None:
            return answer
        assert self._session is not None
        headers = {name: value for name, value in request.headers.items() if name.lower() not in _HOP}
        url = f"{self._plane.url}{request.raw_path}"
        try:
            async with self._session.request(
                request.method,
                URL(url, encoded=True),
                data=await request.read() or None,
                headers=headers,
            ) as upstream:
                if is_watch(request):
                    return await self._stream(request, upstream)
                body = await upstream.read()
                self.seen(request, upstream.status)
                kept = {n: v for n, v in upstream.headers.items() if n.lower() not in _HOP}
                return web.Response(body=body, status=upstream.status, headers=kept)
        except aiohttp.ClientError as error:
            return status(503, f"no API server: {error}")

    async def _stream(self, request: web.Request, upstream: aiohttp.ClientResponse) -> web.StreamResponse:
        answer = web.StreamResponse(status=upstream.status, headers={"Content-Type": "application/json"})
        await answer.prepare(request)
        task = asyncio.ensure_future(self._copy(upstream.content.iter_any(), answer))
        self._tasks.add(task)
        try:
            await asyncio.wait([task])
        finally:
            self._tasks.discard(task)
            task.cancel()
        return answer

    async def _copy(self, pieces: AsyncIterator[bytes], answer: web.StreamResponse) -> None:
        try:
            async for piece in pieces:
                await answer.write(piece)
        except (aiohttp.ClientError, ConnectionError):
            return
