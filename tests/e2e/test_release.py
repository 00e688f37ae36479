"""Images of a release: one archive for all platforms, and the digest by which the chart names it."""

from __future__ import annotations

import json
import shutil
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import pytest
from tests.kit.programs import ROOT
from tools.release import images, packages
from tools.release.programs import helm
from tools.release.source import Source

RECIPE = """
FROM scratch AS operator
COPY LICENSE /
FROM scratch AS sidecar
COPY LICENSE /
"""
"""Nothing in it runs, so that any machine builds it for any platform."""


def held(archive: tarfile.TarFile, name: str) -> dict[str, Any]:
    file = archive.extractfile(name)
    assert file is not None
    return dict(json.load(file))


@pytest.mark.skipif(shutil.which("buildah") is None, reason="there is no buildah here")
def test_an_archive_has_every_platform_and_the_packed_chart_names_it_by_its_digest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a store of its own, so that nobody's images are touched."""
    storage, tree, out = tmp_path / "storage.conf", tmp_path / "tree", tmp_path / "out"
    storage.write_text(
        f'[storage]\ndriver = "vfs"\ngraphroot = "{tmp_path}/graph"\nrunroot = "{tmp_path}/run"\n'
    )
    monkeypatch.setenv("CONTAINERS_STORAGE_CONF", str(storage))
    monkeypatch.setenv("BUILDAH_ISOLATION", "chroot")
    monkeypatch.delenv("BASE", raising=False)
    out.mkdir()
    for image in images.IMAGES.values():
        (tree / image.dockerfile).parent.mkdir(parents=True, exist_ok=True)
        (tree / image.dockerfile).write_text(RECIPE)
    shutil.copy(ROOT / "LICENSE", tree)
    digests = images.build(Source("1.2.3", tree, "c" * 40, "p" * 40, 0), out, images.PLATFORMS)
    assert set(digests) == set(images.IMAGES)
    for part, image in images.IMAGES.items():
        with tarfile.open(out / image.archive("1.2.3")) as archive:
            (whole,) = held(archive, "index.json")["manifests"]
            assert whole["digest"] == digests[part]
            listed = held(archive, f"blobs/sha256/{digests[part].removeprefix('sha256:')}")["manifests"]
        platforms = {f"{each['platform']['os']}/{each['platform']['architecture']}" for each in listed}
        assert platforms == set(images.PLATFORMS)
    packed = packages.chart(ROOT, out, digests)
    rendered = subprocess.run(
        [helm(), "template", "--api-versions=v1/Pod", "mcpace", packed],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    for part, image in images.IMAGES.items():
        assert f"{image.name}@{digests[part]}" in rendered
        assert f"{image.name}:" not in rendered
