"""A whole Kubernetes of one node, in network, mount and process namespaces of its own.

Needs root. Ending the namespaces' first process ends everything in them; `down` removes the
rest: a folder, and the control groups that the kubelet made.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import yaml
from tools.cluster import images
from tools.cluster.binaries import PROGRAMS, program
from tools.cluster.controlplane import POD_CIDR, ControlPlane, Ports, tails

FOLDER: Final = Path("/run/mcpace-cluster")  # short: socket paths end at 107 bytes
AUDITED: Final = "system:serviceaccount:mcpace-system:mcpace"
"""The operator, whose requests the API server writes down."""
ADDRESS: Final = "172.30.0.1"
NODE: Final = "node"
DEADLINE: Final = 90.0

CONTAINERD: Final = """
version = 2
root = "{folder}/containerd"
state = "{folder}/containerd.state"
[grpc]
address = "{folder}/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "{pause}"
restrict_oom_score_adj = true
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "/usr/lib/cni"
conf_dir = "{folder}/cni"
"""

COREFILE: Final = """
.:53 {{
    errors
    ready 127.0.0.1:8181
    cache 5
    kubernetes cluster.local {{
        kubeconfig {kubeconfig} test
    }}
}}
"""


class Node:
    """The cluster. `up` leaves it running, in whichever process it was called."""

    def __init__(self, folder: Path = FOLDER) -> None:
        self.folder = folder
        self._pid_file = folder / "pid"
        self.kubeconfig = folder / "pki" / "admin.kubeconfig"

    @property
    def pid(self) -> int | None:
        """The first process of the namespaces, or None if the cluster is down."""
        with contextlib.suppress(FileNotFoundError, ValueError, ProcessLookupError):
            pid = int(self._pid_file.read_text())
            os.kill(pid, 0)
            return pid
        return None

    def enter(self) -> list[str]:
        """The command that runs another within the namespaces; it begins in /."""
        return ["nsenter", "-t", str(self.pid), "-n", "-m", "-p", "--"]

    def inside(self, *command: str | Path, **options: Any) -> subprocess.CompletedProcess[str]:
        """Run a command within, and fail with what it said."""
        done = subprocess.run(
            [*self.enter(), *map(str, command)], capture_output=True, text=True, **options
        )
        if done.returncode:
            raise RuntimeError(f"{' '.join(map(str, command))}: {done.stderr or done.stdout}")
        return done

    def up(self) -> None:
        """Start everything, and return when the node is ready and the images are there."""
        if self.pid is not None:
            _say("The test cluster is up already")
            return
        archives = images.archives()
        for name in PROGRAMS:
            program(name)
        self.down()
        self.folder.mkdir(mode=0o711, parents=True)
        began = time.monotonic()
        try:
            self._make_namespaces()
            self._start()
            self._import(archives)
            self._wait_for_node()
        except BaseException:
            _say(tails(self.folder))
            self.down()
            raise
        _say(f"The test cluster is up after {time.monotonic() - began:.1f} s")

    def down(self) -> None:
        """End everything, and leave nothing."""
        pid = self.pid
        if pid is not None:
            os.kill(pid, signal.SIGKILL)
            while self.pid is not None:
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(pid, os.WNOHANG)
                time.sleep(0.05)
        deadline = time.monotonic() + 10
        while self.folder.exists() and time.monotonic() < deadline:
            shutil.rmtree(self.folder, ignore_errors=True)
            time.sleep(0.05)
        for hierarchy in (
            "/sys/fs/cgroup",
            *(str(p) for p in Path("/sys/fs/cgroup").iterdir() if p.is_dir()),
        ):
            for root, _, _ in sorted(os.walk(f"{hierarchy}/kubepods"), reverse=True):
                with contextlib.suppress(OSError):
                    Path(root).rmdir()

    def _make_namespaces(self) -> None:
        holder = subprocess.Popen(
            [
                "unshare",
                "--net",
                "--mount",
                "--pid",
                "--fork",
                "--mount-proc",
                "--kill-child",
                "sleep",
                "infinity",
            ],
            start_new_session=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        children = Path(f"/proc/{holder.pid}/task/{holder.pid}/children")
        while not children.read_text().strip():
            time.sleep(0.01)
        self._pid_file.write_text(children.read_text().split()[0])
        for command in (
            "ip link set lo up",
            "ip link add node0 type bridge",
            f"ip addr add {ADDRESS}/24 dev node0",
            "ip link set node0 up",
            "ip route add default dev node0",
            "sysctl -qw net.ipv4.ip_forward=1",
        ):
            self.inside(*command.split())

    def _start(self) -> None:
        ports = Ports(api=6443, etcd=2379, etcd_peer=2380, controllers=10257)
        plane = ControlPlane(
            self.folder, address=ADDRESS, ports=ports, prefix=self.enter(), audited=AUDITED
        )
        self._start_containerd(plane)
        plane.start_etcd()
        plane.start_api_server()
        self._wait(lambda: self._kubectl("get", "--raw", "/readyz").returncode == 0, "the API server")
        plane.start_controllers()
        self._start_kubelet(plane)
        pki, url = plane.authority, plane.url
        scheduler = pki.kubeconfig("scheduler", "system:kube-scheduler", None, url)
        plane.run("kube-scheduler", f"--kubeconfig={scheduler}", "--leader-elect=false")
        proxy = self._write("kube-proxy.yaml", {
            "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
            "kind": "KubeProxyConfiguration",
            "mode": "iptables",
            "clusterCIDR": POD_CIDR,
            "conntrack": {"maxPerCore": 0},
            "clientConnection": {
                "kubeconfig": str(pki.kubeconfig("proxy", "system:kube-proxy", None, url)),
            },
        })  # fmt: skip
        plane.run("kube-proxy", f"--config={proxy}", f"--hostname-override={NODE}")
        corefile = self.folder / "Corefile"
        corefile.write_text(COREFILE.format(kubeconfig=plane.kubeconfig))
        plane.run("coredns", "-conf", str(corefile))

    def _start_containerd(self, plane: ControlPlane) -> None:
        config = self.folder / "containerd.toml"
        config.write_text(CONTAINERD.format(folder=self.folder, pause=images.PAUSE))
        bridge = {
            "type": "bridge", "bridge": "cni0", "isGateway": True, "ipMasq": True, "hairpinMode": True,
            "ipam": {
                "type": "host-local", "dataDir": str(self.folder / "ipam"),
                "ranges": [[{"subnet": POD_CIDR.replace(".0.0/16", ".0.0/24")}]],
                "routes": [{"dst": "0.0.0.0/0"}],
            },
        }  # fmt: skip
        portmap = {"type": "portmap", "capabilities": {"portMappings": True}}
        network = {"cniVersion": "1.0.0", "name": "test", "plugins": [bridge, portmap]}
        (self.folder / "cni").mkdir()
        (self.folder / "cni" / "10-test.conflist").write_text(json.dumps(network))
        plane.run("containerd", "--config", str(config))

    def _start_kubelet(self, plane: ControlPlane) -> None:
        pki = plane.authority
        cert, key = pki.issue("kubelet", f"system:node:{NODE}", hosts=[NODE, ADDRESS])
        resolv = self.folder / "resolv.conf"
        resolv.write_text(f"nameserver {ADDRESS}\n")
        config = self._write("kubelet.yaml", {
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "authentication": {
                "anonymous": {"enabled": False},
                "webhook": {"enabled": True},
                "x509": {"clientCAFile": str(pki.ca)},
            },
            "authorization": {"mode": "Webhook"},
            "cgroupDriver": "cgroupfs",
            "failCgroupV1": False,
            "failSwapOn": False,
            "clusterDNS": [ADDRESS],
            "clusterDomain": "cluster.local",
            "containerRuntimeEndpoint": f"unix://{self.folder}/containerd.sock",
            "evictionHard": {
                "memory.available": "50Mi",
                "nodefs.available": "1%",
                "imagefs.available": "1%",
            },
            "imageGCHighThresholdPercent": 100,
            "podLogsDir": str(self.folder / "logs"),
            "resolvConf": str(resolv),
            "tlsCertFile": str(cert),
            "tlsPrivateKeyFile": str(key),
        })  # fmt: skip
        node = pki.kubeconfig("node", f"system:node:{NODE}", "system:nodes", plane.url)
        plane.run(
            "kubelet", f"--config={config}", f"--kubeconfig={node}", f"--node-ip={ADDRESS}",
            f"--hostname-override={NODE}", f"--root-dir={self.folder / 'kubelet'}",
        )  # fmt: skip

    def _import(self, archives: Sequence[Path]) -> None:
        socket = self.folder / "containerd.sock"
        self._wait(socket.exists, "containerd")
        for archive in archives:
            self.inside("ctr", "-a", socket, "-n", "k8s.io", "images", "import", archive)

    def _wait_for_node(self) -> None:
        def ready() -> bool:
            done = self._kubectl("get", "node", NODE, "-o", "json")
            if done.returncode:
                return False
            conditions = json.loads(done.stdout)["status"].get("conditions", [])
            return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)

        self._wait(ready, "the node")
        dns = [*self.enter(), "bash", "-c", "exec 3<>/dev/tcp/127.0.0.1/8181"]
        self._wait(lambda: subprocess.run(dns, capture_output=True).returncode == 0, "DNS")
        # Before it is there, pods of the namespace are refused.
        account = ("get", "serviceaccount", "default")
        self._wait(lambda: self._kubectl(*account).returncode == 0, "the default ServiceAccount")

    def _kubectl(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [*self.enter(), str(program("kubectl")), f"--kubeconfig={self.kubeconfig}", *arguments]
        return subprocess.run(command, capture_output=True, text=True)

    def _wait(self, condition: Any, what: str) -> None:
        deadline = time.monotonic() + DEADLINE
        while not condition():
            if time.monotonic() > deadline:
                raise RuntimeError(f"{what} is not ready after {DEADLINE:g} s")
            time.sleep(0.1)

    def _write(self, name: str, document: dict[str, Any]) -> Path:
        path = self.folder / name
        path.write_text(yaml.safe_dump(document))
        return path


def _say(words: str) -> None:
    print(words, file=sys.stderr, flush=True)
