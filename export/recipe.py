"""What a release is made of, and whether the newest one is made of it."""

from __future__ import annotations

import hashlib
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from export.contract import CONTRACT_VERSION, MODELS, Model, contract_digest
from export.errors import ExportError

ROOT = Path(__file__).resolve().parents[1]
WEIGHTS = ROOT / "train" / "weights"
TASK_SETS = Path("data") / "task_sets"  # where drawn inputs are kept
NETWORKS = tuple(model.name for model in MODELS if not model.exact)  # what has weights
_NOT_SERVED = "facefilter_voice_identity"  # lies among weights all the same


def weights_of(network: str, folder: Path) -> Path:
    """Where the weights of a network lie: in the folder, or, where that has others' only, with the demonstration's."""
    own = folder / f"{network}.safetensors"
    return WEIGHTS / own.name if not own.is_file() and own_networks(folder) else own


def own_networks(folder: Path) -> list[str]:
    """The networks whose weights a folder has."""
    return [network for network in NETWORKS if (folder / f"{network}.safetensors").is_file()]


def require_names(folder: Path) -> None:
    """Refuse weights that would be passed over for the demonstration's because of their name.

    Raises:
        ExportError: a file of a folder that does not have every network's bears none of their names.
    """
    own = own_networks(folder)
    strange = sorted({path.stem for path in folder.glob("*.safetensors")} - {*NETWORKS, _NOT_SERVED})
    if own and strange and len(own) < len(NETWORKS):
        raise ExportError(
            f"Saw {', '.join(f'{name}.safetensors' for name in strange)} in {folder}; wanted names among "
            f"{', '.join(NETWORKS)}, because weights are found by their name, and the demonstration's would be taken "
            "in their place. Rename or move them."
        )


@dataclass(frozen=True)
class Recipe:
    """What was asked for.

    Args:
        weights: folder of the trained weights; what it lacks is taken from the demonstration's.
        precision: of the networks' ONNX graphs.
        untrained: a preset whose sizes random weights fill; None for the trained ones.
        engines: whether TensorRT engines are made, too.
        tasks: whether the artefacts are judged by their tasks' own measures.
        task_sets: where the inputs for that, and for calibration, are kept.
    """

    weights: Path = WEIGHTS
    precision: str = "fp32"
    untrained: str | None = None
    engines: bool = False
    tasks: bool = False
    task_sets: Path = TASK_SETS

    @property
    def release(self) -> dict[str, str | None]:
        """What tells one release from another of the same sources; stands in every manifest."""
        return {"precision": self.precision, "untrained": self.untrained}

    @property
    def needs_task_sets(self) -> bool:
        """Whether real-like inputs are needed: to judge tasks, or to calibrate a conversion of trained weights."""
        return self.tasks or (self.precision != "fp32" and self.untrained is None)

    def source_digest(self) -> str:
        """Fingerprint of the code of `train` and `export`, and of the weights."""
        files = [path for package in ("train", "export") for path in sorted((ROOT / package).rglob("*.py"))]
        digest = hashlib.sha256()
        for path in (*files, *(() if self.untrained else self._weights_files())):
            digest.update(path.name.encode())
            digest.update(path.read_bytes())
        return digest.hexdigest()[:16]

    def _weights_files(self) -> list[Path]:
        own = sorted(self.weights.glob("*.safetensors"))
        return own + [path for name in NETWORKS if (path := weights_of(name, self.weights)).parent != self.weights]

    def is_current(self, repository: Path, source: str) -> bool:
        """Whether the newest version of every model is whole and made as this says, of this code and these weights."""
        from export.publish import newest_manifest

        needed = {"model.onnx", "model.pt"} | ({"model.plan"} if self.engines else set())
        manifests = [newest_manifest(repository / model.name) for model in MODELS]
        return all(
            manifest is not None
            and manifest["source_digest"] == source
            and manifest.get("release") == self.release
            and needed <= set(manifest["artefacts"])
            and (not self.tasks or manifest.get("tasks_judged", False))
            for manifest in manifests
        )


def graph_facts(model: Model, weights_sha256: str, untrained: str | None = None) -> dict[str, str]:
    """Facts stored inside a graph of fp32 and in its manifest; a conversion changes `precision`."""
    from export.lint import LICENSE
    from export.to_onnx import OPSET

    facts = {
        "model": model.name,
        "summary": model.summary,
        "contract_version": str(CONTRACT_VERSION),
        "contract_digest": contract_digest(),
        "precision": "fp32",
        "opset": str(OPSET),
        "weights_sha256": weights_sha256,
        "license": LICENSE,
    }
    return facts | ({"untrained": untrained} if untrained else {})


def git_commit() -> str:
    """Commit of the source tree, `unknown` outside one."""
    found = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False)
    return found.stdout.strip() or "unknown"


def release_facts(recipe: Recipe, source: str) -> dict[str, Any]:
    """What the manifests of all models of a release say alike."""
    return {
        "release": recipe.release,
        "tasks_judged": recipe.tasks,
        "source_digest": source,
        "git_commit": git_commit(),
    }
