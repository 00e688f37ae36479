"""Container images without a registry or a daemon: a Debian base, and the project's own Dockerfiles.

Kept as archives in the cache, named by what they are made from.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

from tools.cluster.binaries import cache, program

from mcpace_sidecar import __version__

ROOT: Final = Path(__file__).parents[2]
VERSION: Final = __version__
SUITE: Final = "bookworm"
PACKAGES: Final = "python3,python3-venv,ca-certificates,redis-server"
BASE: Final = "localhost/mcpace/base:1"
DATABASE_SUITE: Final = "trixie"  # the first one whose PgBouncer keeps prepared statements (1.21)
DATABASE_PACKAGES: Final = "postgresql-17,pgbouncer"
DATABASE_BASE: Final = "localhost/mcpace/database-base:1"
CERTIFICATES: Final = "/etc/ssl/certs"

SIDECAR: Final = f"mcpace/sidecar:{VERSION}"
OPERATOR: Final = f"mcpace/operator:{VERSION}"
WEATHER: Final = f"mcpace/example-weather:{VERSION}"
REDIS: Final = "mcpace/test-redis:7"
PAUSE: Final = "mcpace/test-pause:1"
POSTGRES: Final = "mcpace/test-postgres:17"
QUERIES: Final = "mcpace/test-queries:1"
STDIO: Final = "mcpace/test-stdio:1"
STATIC: Final = "mcpace/test-static:1"

# Image -> (Dockerfile, target, what it is made from).
BUILT: Final[dict[str, tuple[str, str | None, tuple[str, ...]]]] = {
    SIDECAR: ("Dockerfile", "sidecar", ("pyproject.toml", "uv.lock", "sidecar", "operator", "cli")),
    OPERATOR: ("Dockerfile", "operator", ("pyproject.toml", "uv.lock", "sidecar", "operator", "cli")),
    WEATHER: ("examples/weather/Dockerfile", None, ("examples/weather/server.py",)),
    QUERIES: ("tests/e2e/images/queries.Dockerfile", None, ("tests/e2e/images/queries.py",)),
    STDIO: ("tests/e2e/images/stdio.Dockerfile", None, ()),
    POSTGRES: ("tests/e2e/images/postgres.Dockerfile", None, ("tests/e2e/images/postgres.sh",)),
}
FIRST: Final = "b8889d4086839b735f1ad1b36a612b75808e70ab"
"""The commit whose chart and images upgrades begin from; the images' tag is `first`."""
FIRST_SIDECAR: Final = "mcpace/sidecar:first"
FIRST_OPERATOR: Final = "mcpace/operator:first"

BASES: Final = {POSTGRES: DATABASE_BASE}
"""Images whose base is not the usual one."""


def archives() -> list[Path]:
    """Every image the cluster needs, as archives that containerd imports; built where missing."""
    return [
        _base(),
        _alone("pause", PAUSE),
        _alone("stdio", STATIC),
        *(_built(image) for image in BUILT),
        *_firsts(),
    ]


def first() -> Path | None:
    """The source of the first version, or None in a clone that does not reach back to it."""
    folder = cache() / "images" / f"first-{FIRST[:12]}"
    if folder.exists():
        return folder
    tree = subprocess.run(["git", "archive", FIRST], cwd=ROOT, capture_output=True)
    if tree.returncode:
        return None
    partial = folder.with_suffix(f".{os.getpid()}")
    partial.mkdir(parents=True)
    subprocess.run(["tar", "-x", "-C", partial], input=tree.stdout, check=True)
    partial.rename(folder)
    return folder


def _say(words: str) -> None:
    print(words, file=sys.stderr, flush=True)


def _buildah(*arguments: str | Path) -> str:
    storage = cache() / "containers"
    command = ["buildah", f"--root={storage}", f"--runroot={storage}/run", "--storage-driver=overlay"]
    done = subprocess.run(
        [*command, *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    if done.returncode:
        raise SystemExit(f"buildah {arguments[0]} failed:\n{done.stdout[-4000:]}")
    return done.stdout


def _archive(name: str, key: str) -> Path:
    folder = cache() / "images"
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"{name}-{hashlib.sha256(key.encode()).hexdigest()[:12]}.tar"


def _base() -> Path:
    """A Debian with Python and Redis: the base of the project's images, and the test's Redis."""
    return _debian("base", SUITE, PACKAGES, BASE, REDIS)


def _database_base() -> Path:
    """A newer Debian with PostgreSQL and PgBouncer."""
    return _debian("database-base", DATABASE_SUITE, DATABASE_PACKAGES, DATABASE_BASE, DATABASE_BASE)


def _debian(name: str, suite: str, packages: str, image: str, exported: str) -> Path:
    archive = _archive(name, f"{suite} {packages}")
    if archive.exists():
        return archive
    _say(f"Building the image {name} with debootstrap; this happens once and takes about two minutes ...")
    began = time.monotonic()
    root = archive.with_suffix(f".{os.getpid()}")
    log = archive.with_suffix(".log")
    with log.open("wb") as output:
        done = subprocess.run(
            ["debootstrap", "--variant=minbase", f"--include={packages}", suite, root],
            stdout=output,
            stderr=output,
        )
    if done.returncode:
        raise SystemExit(f"debootstrap failed:\n{log.read_text()[-4000:]}")
    for waste in (
        "var/cache/apt/archives",
        "var/lib/apt/lists",
        "usr/share/doc",
        "usr/share/locale",
        "usr/share/man",
    ):
        shutil.rmtree(root / waste, ignore_errors=True)
    recipe = archive.with_suffix(".Dockerfile")
    recipe.write_text("FROM scratch\nCOPY . /\n")
    _buildah("bud", "--isolation=chroot", "-f", recipe, "-t", image, root)
    shutil.rmtree(root)
    _export(image, exported, archive)
    _say(f"Built the image {name} in {time.monotonic() - began:.0f} s")
    return archive


def _have(base: str) -> None:
    """A base in buildah's own store, from its archive if need be."""
    if not _buildah("images", "--quiet", "--filter", f"reference={base}").strip():
        archive, exported = (_base(), REDIS) if base == BASE else (_database_base(), DATABASE_BASE)
        _buildah("pull", f"docker-archive:{archive}")
        if exported != base:
            _buildah("tag", exported, base)


def _alone(name: str, image: str) -> Path:
    """An image that holds one static program, and nothing else."""
    binary = program(name)
    archive = _archive(name, binary.parent.name)
    if not archive.exists():
        recipe = archive.with_suffix(".Dockerfile")
        recipe.write_text(f'FROM scratch\nCOPY {name} /{name}\nENTRYPOINT ["/{name}"]\n')
        _buildah("bud", "--isolation=chroot", "-f", recipe, "-t", image, binary.parent)
        _export(image, image, archive)
    return archive


def _built(image: str) -> Path:
    dockerfile, target, sources = BUILT[image]
    name = image.rpartition("/")[2].partition(":")[0]
    archive = _archive(name, _digest((dockerfile, *sources)))
    if not archive.exists():
        for old in archive.parent.glob(f"{name}-*.tar"):
            old.unlink()
        _bud(image, archive, ROOT, dockerfile, target)
    return archive


def _firsts() -> list[Path]:
    folder = first()
    if folder is None:
        _say(
            f"This clone does not reach back to {FIRST[:12]}: the upgrade from it is not tested "
            "(git fetch --unshallow)"
        )
        return []
    archives = []
    for image, target in ((FIRST_SIDECAR, "sidecar"), (FIRST_OPERATOR, "operator")):
        archive = folder.with_name(f"first-{target}-{FIRST[:12]}.tar")
        if not archive.exists():
            _bud(image, archive, folder, "Dockerfile", target)
        archives.append(archive)
    return archives


def _bud(image: str, archive: Path, folder: Path, dockerfile: str, target: str | None) -> None:
    _say(f"Building the image {image} ...")
    began = time.monotonic()
    base = BASES.get(image, BASE)
    _have(base)
    arguments: list[str | Path] = [
        "bud", "--isolation=chroot", "--layers", f"--build-arg=BASE={base}", "-t", image,
        "-f", folder / dockerfile,
        # This machine's certificates, so that pip reaches the package index from within.
        "-v", f"{CERTIFICATES}:{CERTIFICATES}:ro",
    ]  # fmt: skip
    variables = ("PIP_INDEX_URL", "UV_INDEX_URL", "PIP_CERT", "SSL_CERT_FILE")
    arguments += [f"--env={name}={os.environ[name]}" for name in variables if os.environ.get(name)]
    if target:
        arguments += ["--target", target]
    _buildah(*arguments, folder)
    _export(image, image, archive)
    _say(f"Built the image {image} in {time.monotonic() - began:.0f} s")


def _digest(sources: tuple[str, ...]) -> str:
    digest = hashlib.sha256(f"{SUITE} {PACKAGES}".encode())
    for source in sources:
        path = ROOT / source
        files = (
            [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.suffix in (".py", ".lua"))
        )
        for file in files:
            digest.update(str(file.relative_to(ROOT)).encode())
            digest.update(file.read_bytes())
    return digest.hexdigest()


def _export(image: str, name: str, archive: Path) -> None:
    partial = archive.with_suffix(f".partial{os.getpid()}")
    _buildah("push", image, f"docker-archive:{partial}:{name}")
    partial.rename(archive)


if __name__ == "__main__":
    for each in archives():
        print(each)
