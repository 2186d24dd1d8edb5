"""What lies beside every engine: of what, by what and for what it was built, and what was proven of it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from export.contract import MODELS, contract_digest
from export.engines.layers import Layer, Verdict, counts
from export.engines.library import Gpu
from export.engines.profiles import Profile

SCHEMA = 1


def engines_fit(repository: Path, release: str, gpu: Gpu) -> bool:
    """Whether every newest engine is by a release of TensorRT and for a GPU: no other release or GPU can load it."""
    from export.engines.builder import MANIFEST_FILE
    from export.publish import versions

    try:
        for model in MODELS:
            folder = repository / model.name / str(versions(repository / model.name)[-1])
            facts = json.loads((folder / MANIFEST_FILE).read_text())
            if (facts["library_version"], facts["gpu"]["name"]) != (release, gpu.name):
                return False
    except (OSError, ValueError, KeyError, IndexError, TypeError):
        return False
    return True


@dataclass(frozen=True)
class Evidence:
    """Layers, and where their precision was read."""

    source: str  # `engine`: TensorRT's inspector; `network`: the parsed, strongly typed network
    because: str
    layers: Sequence[Layer]
    verdict: Verdict


@dataclass(frozen=True)
class Manifest:
    """Everything that is known of one engine."""

    model: str
    precision: str
    graph: bytes
    plan: bytes
    library: str
    library_version: str
    gpu: Gpu | None  # where it was built; None for TensorRT for RTX, which needs none
    built_for: tuple[str, ...]  # compute capabilities that it runs on
    flags: tuple[str, ...]
    profile: Profile
    timing_cache: dict[str, str] | None
    build_s: float
    evidence: Evidence
    parity: dict[str, dict[str, float]] | None
    parity_missing: str | None

    def facts(self) -> dict[str, Any]:
        """As it is written; digests instead of contents."""
        verdict = self.evidence.verdict
        return {
            "schema": SCHEMA,
            "model": self.model,
            "precision": self.precision,
            "contract_digest": contract_digest(),
            "onnx_sha256": hashlib.sha256(self.graph).hexdigest(),
            "plan_sha256": hashlib.sha256(self.plan).hexdigest(),
            "plan_bytes": len(self.plan),
            "library": self.library,
            "library_version": self.library_version,
            "gpu": asdict(self.gpu) if self.gpu else None,
            "built_for": list(self.built_for),
            "flags": list(self.flags),
            "profile": {name: asdict(sizes) for name, sizes in self.profile.items()},
            "timing_cache": self.timing_cache,
            "build_s": round(self.build_s, 3),
            "layers": {
                "source": self.evidence.source,
                "because": self.evidence.because,
                "by_precision": counts(self.evidence.layers),
                "agreed": verdict.agreed,
                "finer": list(verdict.finer),
                "untold": list(verdict.untold),
                "list": [[layer.name, layer.kind, layer.precision, layer.tactic] for layer in self.evidence.layers],
            },
            "parity": self.parity,
            "parity_missing": self.parity_missing,
        }

    def content(self) -> bytes:
        """The file."""
        return json.dumps(self.facts(), indent=1, sort_keys=True).encode()


def table(facts: dict[str, Any]) -> str:
    """An engine's layers by precision, in lines for people.

    Args:
        facts: a manifest as it is written.
    """
    layers = facts["layers"]
    size, seconds = facts["plan_bytes"] / 1e6, facts["build_s"]
    lines = [
        f"{facts['model']}, {facts['precision']}: {facts['library']} {facts['library_version']}, {size:.1f} MB, "
        f"built in {seconds:.1f} s; layers as told by the {layers['source']}"
    ]
    for precision, found in layers["by_precision"].items():
        lines.append(f"  {precision:<6}{found['layers']:>6} layers, {found['products']:>4} of them products")
    told = f"  {layers['agreed']} operators as the graph says"
    told += f", {len(layers['finer'])} in higher precision" if layers["finer"] else ""
    told += f", {len(layers['untold'])} not to be found again in a fusion" if layers["untold"] else ""
    return "\n".join([*lines, told])
