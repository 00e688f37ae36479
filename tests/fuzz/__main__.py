"""Fuzz every surface, guided by coverage: python -m tests.fuzz SECONDS [SURFACE ...].

The seconds are shared evenly. What is learned stays in ~/.cache/mcpace/fuzz, so that the next run goes on
from there; what is found is written into tests/fuzz/corpus, where `make test` looks at it from then on.
Where atheris is not (it has no wheel for this machine or Python) the same seeds are varied blindly.
"""

from __future__ import annotations

import hashlib
import os
import random
import subprocess
import sys
import time
import traceback
from pathlib import Path

from tests.fuzz.seeds import CORPUS, SEEDS, WORDS, kept, varied

KEPT = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mcpace/fuzz"


def main() -> int:
    """Fuzz each surface in a process of its own, or, with `--one`, this one in this process."""
    if sys.argv[1] == "--one":
        one(sys.argv[2], int(sys.argv[3]))
        return 0
    names = sys.argv[2:] or list(SEEDS)
    seconds = max(1, int(sys.argv[1]) // len(names))
    found = []
    for name in names:
        print(f"{name}: {seconds} s", flush=True)
        command = [sys.executable, "-m", "tests.fuzz", "--one", name, str(seconds)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        last = [line for line in done.stderr.splitlines() if line.startswith(("#", "Done"))][-1:]
        print(f"  {last[0] if last else ''}", flush=True)
        if done.returncode:
            found.append(name)
            print(done.stdout[-3000:] + done.stderr[-3000:], flush=True)
    if found:
        print(f"Found something in {', '.join(found)}: see {CORPUS}", file=sys.stderr)
    return 1 if found else 0


def one(name: str, seconds: int) -> None:
    """Fuzz one surface; ends with a traceback at what it finds."""
    try:
        import atheris
    except ImportError:
        print("atheris is not here: seeds are varied blindly", file=sys.stderr)
        blindly(name, seconds)
        return
    with atheris.instrument_imports(include=["mcpace_sidecar", "mcpace_operator"]):
        from tests.fuzz.surfaces import LONGEST, SURFACES, bounded
    learned = KEPT / name
    learned.mkdir(parents=True, exist_ok=True)
    for data in kept(name):
        (learned / hashlib.sha256(data).hexdigest()[:16]).write_bytes(data)
    words = KEPT / f"{name}.words"
    words.write_text("".join(f'"{_escaped(word)}"\n' for word in WORDS[name]))

    def test(data: bytes) -> None:
        try:
            bounded(SURFACES[name], data)
        except Exception:
            keep(name, data)
            raise

    options = [
        f"-max_total_time={seconds}",
        f"-max_len={LONGEST}",
        f"-dict={words}",
        "-timeout=10",
        "-print_final_stats=1",
    ]
    atheris.Setup([sys.argv[0], *options, f"-artifact_prefix={KEPT}/", str(learned)], test)
    atheris.Fuzz()


def _escaped(word: bytes) -> str:
    return "".join(f"\\x{byte:02x}" for byte in word)


def blindly(name: str, seconds: int) -> None:
    """Vary the seeds for so many seconds."""
    from tests.fuzz.surfaces import SURFACES, bounded

    chance, ending, count = random.Random(), time.monotonic() + seconds, 0
    while time.monotonic() < ending:
        data, count = varied(name, chance), count + 1
        try:
            bounded(SURFACES[name], data)
        except Exception:
            keep(name, data)
            traceback.print_exc()
            sys.exit(1)
    print(f"Done {count} runs", file=sys.stderr)


def keep(name: str, data: bytes) -> None:
    """Write down what was found, for the tests."""
    folder = CORPUS / name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / hashlib.sha256(data).hexdigest()[:16]).write_bytes(data)
    print(f"FOUND {name}: {data!r}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
