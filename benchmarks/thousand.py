"""A thousand McpServers at once: the operator beside a bare client that applies the same objects.

On a real etcd, API server, controller-manager and scheduler, in a network of their own; kwok makes the
pods Ready, and what they tell the operator is what one real sidecar before a real server told. Both are
timed from the first apply to the last Deployment that has all its replicas. Needs root, for the network.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

import yaml
from rig import arguments, publish, table
from tests.kit.redis import RedisServer
from tests.kit.waiting import until
from tools.cluster.binaries import kwok_stages, program
from tools.cluster.controlplane import POD_CIDR, ControlPlane
from tools.ports import free_port

from mcpace_operator.children import children
from mcpace_operator.children.context import Context, Credentials
from mcpace_operator.cluster.client import Cluster
from mcpace_operator.comparison.drift import stamped
from mcpace_operator.masterkey import MasterKey
from mcpace_operator.resource.models import API_VERSION, KIND, parse_spec
from mcpace_operator.resource.server import Key, Server
from mcpace_operator.settings import OperatorSettings

ROOT: Final = Path(__file__).parents[1]
NODES: Final = 20
ADMIN: Final = 18090
AT_ONCE: Final = 16
PATIENCE: Final = 600.0
IDLE: Final = 60.0
SPEC: Final[dict[str, Any]] = {
    "image": "weather:1",
    "rateLimits": {},
    "networkPolicy": {},
    "cache": {"tools": [{"name": "get-weather", "ttl": "5m"}]},
}
KEY: Final = "a-master-key-of-more-than-32-characters"


def main() -> None:
    """Measure and print."""
    parser = arguments(__doc__, rounds=1, seconds=1)  # what is measured is itself long
    parser.add_argument("--servers", type=int, default=1000)
    options = parser.parse_args()
    if os.environ.get("MCPACE_OWN_NETWORK") != "1":
        if os.geteuid() != 0:
            words = "Left out without root: made-up pods need a network of their own, which leads nowhere."
            print(words, file=sys.stderr)
            return
        # The API server wants a default route, and nothing may leave by it.
        script = "ip link set lo up && ip link add node0 type bridge && ip addr add 172.30.0.1/24 dev node0"
        script += " && ip link set node0 up && ip route add default dev node0"
        script += f" && ip route add unreachable 10.0.0.0/8 && ip route add local {POD_CIDR} dev lo"
        script += ' && exec "$@"'
        own = ("--net", "--mount", "--pid", "--fork", "--mount-proc", "--kill-child")  # all ends with it
        command = ["unshare", *own, "--", "sh", "-c", script, "sh", sys.executable, *sys.argv]
        os.execvpe("unshare", command, os.environ | {"MCPACE_OWN_NETWORK": "1"})
    asyncio.run(measure(options.servers, told(), write=options.write))


async def measure(servers: int, body: bytes, *, write: bool) -> None:
    """Time both, the bare client first; `body` is what pods tell the operator."""
    async with plane(servers) as (_, cluster):
        bare = await timed(cluster, servers, apply_all(cluster, everything(servers)))
    print(f"  bare client: {servers} servers Ready after {bare:.1f} s", file=sys.stderr)
    async with plane(servers) as (control, cluster), answering(body):
        with Operator(control) as operator:
            began = time.monotonic()
            ours = await timed(cluster, servers, apply_all(cluster, map(resource, range(servers))))
            await until(lambda: all_ready(cluster, servers), "every status to say so", PATIENCE, pause=1.0)
            said = time.monotonic() - began
            use, requests = operator.use(), operator.requests()
            print(f"  operator: {servers} servers Ready after {ours:.1f} s", file=sys.stderr)
            await until(
                lambda: all_measured(cluster, servers), "every status to hold numbers", PATIENCE, pause=1.0
            )
            await until(operator.quiet, "the operator to have nothing to do", PATIENCE, pause=1.0)
            before, quiet = operator.use(), operator.requests()
            await asyncio.sleep(IDLE)
            after, later = operator.use(), operator.requests()
            began = time.monotonic()
            changed = dict(SPEC) | {"rateLimits": {"tiers": [{"name": "free", "requestsPerMinute": 77}]}}
            await cluster.apply(resource(servers // 2, changed))
            await until(lambda: holds(cluster, servers // 2, "77"), "the ConfigMap", PATIENCE)
            one = time.monotonic() - began
            await until(lambda: seen(cluster, servers // 2), "its status to say so", PATIENCE, pause=1.0)
            peak = operator.use().peak
            operator.stop()
            operator.start()
            await until(operator.quiet, "the operator to be back", PATIENCE, pause=1.0)
            await asyncio.sleep(10)
            writes = operator.writes()
    rows: list[tuple[object, ...]] = [
        ("", "measured", "bound"),
        ("a bare client, to the last one Ready", f"{bare:.1f} s", ""),
        ("the operator, to the last one Ready", f"{ours:.1f} s", ""),
        ("ratio", f"{ours / bare:.2f}", "1.5"),
        ("until every status said so too", f"{said:.1f} s", ""),
        ("CPU of the operator meanwhile", f"{use.cpu:.1f} s", ""),
        ("its memory, at most", f"{peak:.0f} MB", "150 MB"),
        ("its requests", f"{requests / servers:.1f} per server", ""),
        ("idle: CPU", f"{(after.cpu - before.cpu) / IDLE:.1%} of a core", "2 %"),
        ("idle: requests", f"{(later - quiet) / IDLE * 60:.0f} a minute", ""),
        ("one changed server, to its ConfigMap", f"{one * 1000:.0f} ms", "1 s"),
        ("a restart", f"{writes} writes", "0"),
    ]
    publish("thousand", f"{servers:,} servers.\n\n" + table(*rows), write=write)


def resource(number: int, spec: dict[str, Any] | None = None) -> dict[str, Any]:
    """One McpServer."""
    metadata = {"name": f"server-{number}", "namespace": "default"}
    return {"apiVersion": API_VERSION, "kind": KIND, "metadata": metadata, "spec": spec or SPEC}


def everything(servers: int) -> Iterable[dict[str, Any]]:
    """The same servers with all their children, as the operator would make them."""
    settings = OperatorSettings(master_key=MasterKey(KEY.encode()))
    for number in range(servers):
        server = Server(
            Key("default", f"server-{number}"), f"00000000-0000-0000-0000-{number:012}", 1, SPEC, {}
        )
        credentials = Credentials("redis://u:p@limits:6379", "redis://u:p@cache:6379")
        context = Context(server, parse_spec(SPEC), settings, credentials)
        yield resource(number)
        for child in children(context):
            # Owners that are not there would have the garbage collector delete them.
            metadata = {
                name: value for name, value in child["metadata"].items() if name != "ownerReferences"
            }
            yield stamped(child | {"metadata": metadata})


async def apply_all(cluster: Cluster, bodies: Iterable[dict[str, Any]]) -> None:
    """Apply them, as many at once as serves the API server best."""
    waiting = iter(bodies)

    async def work() -> None:
        for body in waiting:
            await cluster.apply(body)

    await asyncio.gather(*(work() for _ in range(AT_ONCE)))


async def timed(cluster: Cluster, servers: int, work: Awaitable[None]) -> float:
    """Seconds from now to the last Deployment with a ready replica."""
    began = time.monotonic()
    await work
    await until(
        lambda: all_available(cluster, servers), "every Deployment to be available", PATIENCE, pause=0.5
    )
    return time.monotonic() - began


async def all_available(cluster: Cluster, servers: int) -> bool:
    """Whether every Deployment has a ready replica."""
    return servers == sum(
        [
            bool((body.get("status") or {}).get("availableReplicas"))
            async for body in cluster.items("Deployment")
        ]
    )


async def all_ready(cluster: Cluster, servers: int) -> bool:
    """Whether every status says Ready."""
    count = 0
    async for body in cluster.items(KIND):
        conditions = (body.get("status") or {}).get("conditions") or []
        count += any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)
    return count == servers


async def all_measured(cluster: Cluster, servers: int) -> bool:
    """Whether every status says how its server performs."""
    statuses = [body.get("status") or {} async for body in cluster.items(KIND)]
    return sum("performance" in status for status in statuses) == servers


async def holds(cluster: Cluster, number: int, text: str) -> bool:
    """Whether a server's ConfigMap holds a text."""
    found = [b async for b in cluster.items("ConfigMap", namespace="default", name=f"server-{number}")]
    return bool(found) and text in found[0]["data"]["config.yaml"]


async def seen(cluster: Cluster, number: int) -> bool:
    """Whether a server's status is of its manifest as it is."""
    (body,) = [b async for b in cluster.items(KIND, namespace="default", name=f"server-{number}")]
    return bool(body["status"]["observedGeneration"] == body["metadata"]["generation"])


@asynccontextmanager
async def plane(servers: int) -> AsyncIterator[tuple[ControlPlane, Cluster]]:
    """A control plane with made-up nodes, and a client of it."""
    with tempfile.TemporaryDirectory(prefix="mcpace-bench-", ignore_cleanup_errors=True) as folder:
        control = ControlPlane(Path(folder))
        try:
            control.start()
            pki = control.authority
            scheduler = pki.kubeconfig("scheduler", "system:kube-scheduler", None, control.url)
            port = free_port()
            control.run(
                "kube-scheduler",
                f"--kubeconfig={scheduler}",
                "--leader-elect=false",
                f"--secure-port={port}",
                "--kube-api-qps=1000",
                "--kube-api-burst=1000",
            )
            control.run(
                "kwok",
                f"--kubeconfig={control.kubeconfig}",
                "--manage-all-nodes=true",
                "--node-lease-duration-seconds=40",
                *(f"--config={path}" for path in kwok_stages()),
            )
            kubectl(control, "apply", "-f", str(ROOT / "crds/mcpservers.yaml"))
            kubectl(
                control, "wait", "--for=condition=Established", "crd/mcpservers.mcpace.dev", "--timeout=30s"
            )
            for number in range(NODES):
                capacity = {"cpu": "1000", "memory": "1Ti", "pods": str(2 * servers // NODES + 10)}
                metadata = {
                    "name": f"node-{number}",
                    "labels": {"kubernetes.io/hostname": f"node-{number}"},
                }
                node = {"apiVersion": "v1", "kind": "Node", "metadata": metadata,
                        "status": {"capacity": capacity, "allocatable": capacity}}  # fmt: skip
                kubectl(control, "create", "-f", "-", stdin=yaml.safe_dump(node))
            kubectl(control, "wait", "--for=condition=Ready", "nodes", "--all", "--timeout=60s")
            os.environ["KUBECONFIG"] = str(control.kubeconfig)
            cluster = await Cluster.connect()
            try:
                yield control, cluster
            finally:
                await cluster.close()
        finally:
            control.stop()


def told() -> bytes:
    """What a real sidecar says of a real server after a few calls."""
    port, admin = free_port(), free_port()
    command = [
        sys.executable, "-m", "mcpace_cli", "run", str(ROOT / "examples/weather/manifest.yaml"),
        f"--listen=127.0.0.1:{port}", f"--admin-listen=127.0.0.1:{admin}",
        "--", sys.executable, str(ROOT / "examples/weather/server.py"),
    ]  # fmt: skip
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for city in ("Oslo", "Lima", "Oslo"):
            asked = ["--wait=60s", f"http://127.0.0.1:{port}/mcp", "forecast", f"city={city}"]
            call = [sys.executable, "-m", "mcpace_cli", "call", *asked]
            subprocess.run(call, stdout=subprocess.DEVNULL, check=True)
        with urllib.request.urlopen(f"http://127.0.0.1:{admin}/stats", timeout=5) as answer:
            return bytes(answer.read())
    finally:
        process.terminate()
        process.wait()


@asynccontextmanager
async def answering(body: bytes) -> AsyncIterator[None]:
    """Every made-up pod's admin port."""
    answer = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                await reader.readuntil(b"\r\n\r\n")
                writer.write(answer + body)
        writer.close()

    async with await asyncio.start_server(serve, "0.0.0.0", ADMIN):
        yield


def kubectl(control: ControlPlane, *arguments: str, stdin: str | None = None) -> None:
    """Run kubectl, which must succeed."""
    command = [program("kubectl"), f"--kubeconfig={control.kubeconfig}", *arguments]
    done = subprocess.run(command, input=stdin, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"kubectl {' '.join(arguments)}: {done.stderr}")


@dataclass(frozen=True)
class Use:
    """What a process has used: seconds of CPU, and at most so many MB."""

    cpu: float
    peak: float


class Operator:
    """The operator as a process, with a Redis."""

    def __init__(self, control: ControlPlane) -> None:
        self._control = control
        self._redis = RedisServer(control.folder)
        self._port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self._redis.start()
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self._redis.stop()

    def start(self) -> None:
        """Start it, and wait until it watches."""
        environment = os.environ | {
            "KUBECONFIG": str(self._control.kubeconfig),
            "MCPACE_MASTER_KEY": KEY,
            "MCPACE_HEALTH_PORT": str(self._port),
            "MCPACE_LIMITS_URL": self._redis.url,
            "MCPACE_CACHE_URL": self._redis.url,
        }
        log = (self._control.folder / "operator.log").open("ab")
        command = [sys.executable, "-m", "mcpace_cli", "operator"]
        self._process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        deadline = time.monotonic() + 60
        while "mcpace_operator_servers" not in self._metrics():
            if time.monotonic() > deadline or self._process.poll() is not None:
                sys.exit((self._control.folder / "operator.log").read_text()[-3000:])
            time.sleep(0.1)

    def stop(self) -> None:
        """End it."""
        if self._process is not None:
            self._process.send_signal(signal.SIGTERM)
            self._process.wait(60)
            self._process = None

    def use(self) -> Use:
        """What it has used so far."""
        assert self._process is not None
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        peak = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))
        return Use((int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK"), peak / 1024)

    def requests(self) -> float:
        """Requests so far."""
        return self._sum("mcpace_operator_api_requests_total")

    def writes(self) -> int:
        """Writes so far."""
        return int(sum(self._sum(f'mcpace_operator_api_requests_total{{code="{c}",verb="{v}"}}')
                       for v in ("PATCH", "POST", "PUT", "DELETE") for c in (200, 201)))  # fmt: skip

    def quiet(self) -> bool:
        """Whether it knows the servers and none waits."""
        metrics = self._metrics()
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{self._port}/readyz", timeout=5).close()
        except OSError:
            return False  # it is not ready before its watches are open
        known = "mcpace_operator_servers 0.0" not in metrics
        return known and "mcpace_operator_queue 0.0" in metrics

    def _sum(self, beginning: str) -> float:
        lines = self._metrics().splitlines()
        return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(beginning))

    def _metrics(self) -> str:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self._port}/metrics", timeout=5) as answer:
                return str(answer.read().decode())
        except OSError:
            return ""


if __name__ == "__main__":
    main()
