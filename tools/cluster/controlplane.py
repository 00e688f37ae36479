"""etcd, kube-apiserver and kube-controller-manager: a real API server, without root, in seconds."""

from __future__ import annotations

import contextlib
import http.client
import json
import ssl
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import trustme
import yaml
from tools.cluster.binaries import program
from tools.ports import free_port

SERVICE_CIDR = "10.96.0.0/16"
POD_CIDR = "10.244.0.0/16"
DEADLINE = 60.0


@dataclass
class Ports:
    """Where the control plane listens; all chosen by the system unless given."""

    api: int = field(default_factory=free_port)
    etcd: int = field(default_factory=free_port)
    etcd_peer: int = field(default_factory=free_port)
    controllers: int = field(default_factory=free_port)


def tails(folder: Path) -> str:
    """The ends of all logs in a folder."""
    parts = []
    for path in sorted(folder.glob("*.log")):
        lines = path.read_text(errors="replace").splitlines()[-15:]
        parts.append("\n".join([f"--- {path.name}", *lines]))
    return "\n".join(parts)


class Authority:
    """The cluster's certificate authority and the files made from it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._ca = trustme.CA()
        self.ca = folder / "ca.crt"
        self._ca.cert_pem.write_to_path(self.ca)

    def issue(
        self, name: str, user: str, group: str | None = None, hosts: Sequence[str] = ()
    ) -> tuple[Path, Path]:
        """Make a certificate; return the paths of its certificate and key."""
        # Go refuses a certificate whose list of alternative names is empty.
        certificate = self._ca.issue_cert(
            *(hosts or ["localhost"]), common_name=user, organization_name=group
        )
        cert, key = self.folder / f"{name}.crt", self.folder / f"{name}.key"
        for blob, append in zip(certificate.cert_chain_pems, (False, True, True), strict=False):
            blob.write_to_path(cert, append=append)
        certificate.private_key_pem.write_to_path(key)
        key.chmod(0o600)
        return cert, key

    def kubeconfig(self, name: str, user: str, group: str | None, server: str) -> Path:
        """Make a kubeconfig for a user of that name and group."""
        cert, key = self.issue(name, user, group)
        path = self.folder / f"{name}.kubeconfig"
        document: dict[str, Any] = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [
                {"name": "test", "cluster": {"server": server, "certificate-authority": str(self.ca)}}
            ],
            "users": [{"name": user, "user": {"client-certificate": str(cert), "client-key": str(key)}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": user}}],
            "current-context": "test",
        }
        path.write_text(yaml.safe_dump(document))
        return path


class ControlPlane:
    """Started by `start`, ended by `stop`.

    `prefix` runs its programs elsewhere (in a namespace); what the user `audited` asks is written
    to `audit.log`.
    """

    def __init__(
        self,
        folder: Path,
        *,
        address: str = "127.0.0.1",
        ports: Ports | None = None,
        prefix: Sequence[str] = (),
        audited: str = "",
    ) -> None:
        self.folder = folder
        self.prefix = list(prefix)
        self.audited = audited
        self.address = address
        self.ports = ports or Ports()
        self.authority = Authority(folder / "pki")
        self.url = f"https://{address}:{self.ports.api}"
        self.kubeconfig = self.authority.kubeconfig("admin", "admin", "system:masters", self.url)
        self.processes: list[subprocess.Popen[bytes]] = []

    def start(self) -> None:
        """Start everything, and wait until the API server is ready."""
        self.start_etcd()
        self.start_api_server()
        self.wait_until_ready()
        self.start_controllers()

    def start_etcd(self) -> None:
        """Start etcd, which forgets faster than it writes."""
        ports, data = self.ports, self.folder / "etcd"
        data.mkdir(exist_ok=True, mode=0o700)
        client, peer = f"http://127.0.0.1:{ports.etcd}", f"http://127.0.0.1:{ports.etcd_peer}"
        self.run(
            "etcd",
            f"--data-dir={data}",
            f"--listen-client-urls={client}",
            f"--advertise-client-urls={client}",
            f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster=default={peer}",
            "--unsafe-no-fsync",
            "--log-level=error",
        )

    def start_api_server(self) -> None:
        """Start kube-apiserver."""
        pki = self.authority
        hosts = [
            "kubernetes.default.svc",
            "kubernetes.default",
            "localhost",
            "10.96.0.1",
            "127.0.0.1",
            self.address,
        ]
        cert, key = pki.issue("apiserver", "kube-apiserver", hosts=list(dict.fromkeys(hosts)))
        _, signing = pki.issue("serviceaccount", "service-accounts")
        proxy_cert, proxy_key = pki.issue("front-proxy", "front-proxy")
        kubelet_cert, kubelet_key = pki.issue("apiserver-kubelet", "kube-apiserver", "system:masters")
        self.run(
            "kube-apiserver",
            f"--etcd-servers=http://127.0.0.1:{self.ports.etcd}",
            f"--secure-port={self.ports.api}",
            f"--advertise-address={self.address}"
            if self.address != "127.0.0.1"
            else "--bind-address=127.0.0.1",
            f"--service-cluster-ip-range={SERVICE_CIDR}",
            f"--tls-cert-file={cert}",
            f"--tls-private-key-file={key}",
            f"--client-ca-file={pki.ca}",
            f"--kubelet-certificate-authority={pki.ca}",
            f"--kubelet-client-certificate={kubelet_cert}",
            f"--kubelet-client-key={kubelet_key}",
            "--kubelet-preferred-address-types=InternalIP",
            # Other API servers, such as metrics-server's, are reached through this one.
            f"--requestheader-client-ca-file={pki.ca}",
            "--requestheader-allowed-names=front-proxy",
            "--requestheader-username-headers=X-Remote-User",
            "--requestheader-group-headers=X-Remote-Group",
            "--requestheader-extra-headers-prefix=X-Remote-Extra-",
            f"--proxy-client-cert-file={proxy_cert}",
            f"--proxy-client-key-file={proxy_key}",
            "--enable-aggregator-routing",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={signing}",
            f"--service-account-signing-key-file={signing}",
            "--authorization-mode=Node,RBAC",
            "--allow-privileged=true",
            "--endpoint-reconciler-type=" + ("lease" if self.address != "127.0.0.1" else "none"),
            *(self._audit() if self.audited else ()),
        )

    def _audit(self) -> list[str]:
        policy = self.folder / "audit.json"
        rules = [{"level": "Metadata", "users": [self.audited]}, {"level": "None"}]
        policy.write_text(
            json.dumps(
                {
                    "apiVersion": "audit.k8s.io/v1",
                    "kind": "Policy",
                    "omitStages": ["RequestReceived"],
                    "rules": rules,
                }
            )
        )
        return [f"--audit-policy-file={policy}", f"--audit-log-path={self.folder / 'audit.log'}"]

    def start_controllers(self) -> None:
        """Start kube-controller-manager."""
        pki = self.authority
        kubeconfig = pki.kubeconfig("controllers", "system:kube-controller-manager", None, self.url)
        self.run(
            "kube-controller-manager",
            f"--kubeconfig={kubeconfig}",
            "--use-service-account-credentials",
            f"--root-ca-file={pki.ca}",
            f"--service-account-private-key-file={pki.folder / 'serviceaccount.key'}",
            "--allocate-node-cidrs",
            f"--cluster-cidr={POD_CIDR}",
            "--leader-elect=false",
            "--bind-address=127.0.0.1",
            f"--secure-port={self.ports.controllers}",
            "--horizontal-pod-autoscaler-sync-period=5s",
            # A node here is never lost, only late when everything runs on two cores.
            "--node-monitor-grace-period=10m",
            # Its defaults, 20 a second, would be what is measured when a thousand servers come at once.
            "--kube-api-qps=1000",
            "--kube-api-burst=1000",
            "--concurrent-deployment-syncs=20",
            "--concurrent-replicaset-syncs=20",
        )

    def run(self, name: str, *arguments: str, **options: Any) -> subprocess.Popen[bytes]:
        """Start a program of the cluster, its output in a file of its name."""
        with (self.folder / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                [*self.prefix, str(program(name)), *arguments],
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                **options,
            )
        self.processes.append(process)
        return process

    def wait_until_ready(self) -> None:
        """Wait until the API server says it is ready; fail with the end of its log."""
        context = ssl.create_default_context(cafile=str(self.authority.ca))
        pki = self.authority.folder
        context.load_cert_chain(pki / "admin.crt", pki / "admin.key")
        deadline = time.monotonic() + DEADLINE
        while time.monotonic() < deadline:
            for process in self.processes:
                if process.poll() is not None:
                    raise RuntimeError(f"{_command(process)[0]} ended:\n{tails(self.folder)}")
            connection = http.client.HTTPSConnection(
                self.address, self.ports.api, context=context, timeout=2
            )
            with contextlib.closing(connection), contextlib.suppress(OSError, http.client.HTTPException):
                connection.request("GET", "/readyz")
                if connection.getresponse().status == 200:
                    return
            time.sleep(0.1)
        raise RuntimeError(f"The API server is not ready after {DEADLINE:g} s:\n{tails(self.folder)}")

    def restart_api_server(self) -> None:
        """Kill the API server, and start it again."""
        at = len(self.prefix)
        (server,) = [p for p in self.processes if _command(p)[at].endswith("kube-apiserver")]
        server.kill()
        server.wait()
        self.processes.remove(server)
        self.start_api_server()
        self.wait_until_ready()

    def stop(self) -> None:
        """End everything, the last started first; there is nothing to save."""
        for process in reversed(self.processes):
            process.kill()
            process.wait()
        self.processes.clear()


def _command(process: subprocess.Popen[bytes]) -> list[str]:
    assert isinstance(process.args, list)
    return [str(word) for word in process.args]
