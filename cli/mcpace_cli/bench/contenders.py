"""Who is measured: a URL, a server as it is, and manifests, whole, bare, and with one lever alone."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

from mcpace_cli.bench import levers
from mcpace_cli.bench.asked import Asked, say
from mcpace_cli.bench.load import Server
from mcpace_cli.bench.stage import Running, Stage, Variant
from mcpace_cli.manifest import environment, read, without_file
from mcpace_cli.target import Target, key_header
from mcpace_sidecar.errors import ConfigError

BARE = "bare"
WITHOUT = "direct"
THROUGH = "mcpace"


@dataclass
class Live:
    """One that answers calls: a URL, with its sidecar's counters where that is ours."""

    name: str
    words: str
    server: Server
    running: Running | None = None
    parallel: bool = False


@dataclass
class Table:
    """Who is compared, and by whom the levers are told."""

    compared: list[Live]
    bare: Live | None = None
    alone: dict[str, Live] = field(default_factory=dict)
    lines: dict[str, str] = field(default_factory=dict)
    spec: levers.Spec = field(default_factory=dict)
    manifest: str = ""

    @property
    def all(self) -> list[Live]:
        """Each once."""
        every = [*self.compared, *([self.bare] if self.bare else []), *self.alone.values()]
        return list({id(live): live for live in every}.values())


async def contenders(asked: Asked, stage: Stage, notes: list[str]) -> Table:
    """Start what is to be measured; ConfigError."""
    alone = len(asked.targets) == 1 and not _is_url(asked.targets[0])
    if asked.levers and not alone:
        raise ConfigError("--levers is for one MANIFEST alone")
    if asked.command and asked.targets and all(map(_is_url, asked.targets)):
        raise ConfigError("a COMMAND goes with a MANIFEST: what is at a URL runs already")
    if not asked.targets:
        manifest = without_file(asked.command, None)
        say(f"Starting {asked.command[0]} by its standard input and output")
        live = await _through(asked, stage, Variant(THROUGH, manifest, levers.spec_of(manifest)))
        live.words = "the command, by its standard input and output"
        return Table([live])
    if alone:
        return await _levers(asked, stage, asked.targets[0], notes)
    compared, acting = [], ""
    several = len(asked.targets) > 1
    for number, target in enumerate(asked.targets):
        if _is_url(target):
            name = f"url {number + 1}" if several else "url"
            found = _target(asked, target)
            compared.append(Live(name, found.name, Server(found, asked.clients)))
            continue
        variant = _variant(asked, target, notes)
        name = Path(target).stem
        if name in [live.name for live in compared]:
            name = f"{name} {number + 1}"
        live = await _through(asked, stage, variant)
        live.name, live.words = name, f"{Path(target).name} through the sidecar"
        compared.append(live)
        acting = _acting(variant)
    return Table(compared, manifest=acting)


async def _levers(asked: Asked, stage: Stage, target: str, notes: list[str]) -> Table:
    """One manifest: its server as it is, the same through the sidecar, and each lever alone."""
    whole = _variant(asked, target, notes)
    spec, lines = whole.spec, levers.levers(whole.spec)
    own = bool(whole.command or spec.get("command"))
    if "pooling" in lines and not (own and levers.uses_doors(spec)):
        del lines["pooling"]
        notes.append(
            "The part of pooling is not told: that takes a server that is started here, and whose env,"
            " command or args in the manifest name the door's address."
        )
    doorless = {key: part for key, part in spec.items() if key != "egress" or "pooling" in lines}
    bare = levers.without(doorless, lines)
    over_pipes = spec.get("transport") == "stdio"
    served = await _through(asked, stage, Variant(BARE, whole.manifest, bare, whole.command))
    served.words = "the sidecar without any lever"
    if over_pipes:
        notes.append(
            "A server of stdio cannot be called without what speaks HTTP for it: it is compared with the"
            " sidecar without any lever."
        )
        compared = [served]
    else:
        assert served.running is not None
        itself = _target(asked, served.running.direct, whole)
        headers = dict(itself.headers)
        headers.pop(_key_header(asked, whole), None)  # it is the sidecar's, and goes no further
        itself = replace(itself, headers=headers)
        compared = [Live(WITHOUT, "the server itself", Server(itself, asked.clients))]
    through = served
    if bare != spec:
        through = await _through(asked, stage, whole)
    through.name, through.words = THROUGH, f"{Path(target).name} through the sidecar"
    if through is not compared[0]:
        compared.append(through)
    found = Table(compared, served, lines=lines, spec=spec, manifest=_acting(whole))
    if asked.levers:
        for name in lines:
            alone = levers.without(doorless, lines.keys() - {name})
            live = await _through(asked, stage, Variant(name, whole.manifest, alone, whole.command))
            live.words = f"{name} alone"
            found.alone[name] = live
    elif lines:
        notes.append(f"--levers tells the part of each: {', '.join(lines)}.")
    return found


def _variant(asked: Asked, target: str, notes: list[str]) -> Variant:
    path = Path(target)
    if not path.exists():
        raise ConfigError(
            f"{target}: no such file, and no URL: write a MANIFEST, or for example http://127.0.0.1:8000/mcp"
        )
    manifest = read(path, asked.name, asked.command)
    for problem in environment(manifest)[1]:
        say(f"spec.{problem}; put it there, or set the variable yourself")
    spec = levers.spec_of(manifest)
    if spec.get("transport") == "sse":
        raise ConfigError(
            f"{target}: the older pair with SSE is not measured; where the server speaks streamable HTTP"
            " too, leave `transport` out"
        )
    if not asked.limits and "rateLimits" in spec:
        spec = levers.unlimited(spec)
        notes.append(
            f"The limits of {path.name} are lifted, which would refuse the load; --limits keeps them."
        )
    return Variant(THROUGH, manifest, spec, asked.command)


def _acting(variant: Variant) -> str:
    """What the sidecar is told, to be shown: nothing of the server's environment or command."""
    return levers.written(variant.manifest.spec.sidecar_config())


async def _through(asked: Asked, stage: Stage, variant: Variant) -> Live:
    say(f"Starting {variant.name} ...")
    running = await stage.run(variant)
    server = Server(_target(asked, running.url, variant), asked.clients)
    live = Live(variant.name, "", server, running)
    live.parallel = bool((variant.spec.get("concurrency") or {}).get("parallelTool"))
    return live


def _target(asked: Asked, url: str, variant: Variant | None = None) -> Target:
    return Target.of(url, key_header=_key_header(asked, variant))


def _key_header(asked: Asked, variant: Variant | None) -> str:
    if asked.api_key_header is not None or variant is None:
        return key_header(asked.api_key_header)
    return variant.manifest.spec.clients.api_key_header


def _is_url(target: str) -> bool:
    return "://" in target
