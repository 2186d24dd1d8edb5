"""The evaluation sets through the served ensembles and through torch, judged alike: SDRi and count MAE, side by side.

By default the sets are drawn from a seed, of talkers and scenes that no weights have seen; data sets on disk are judged
with --talkers and --scenes-data. A repository exported in another precision shows what that costs in the tasks' own
measures: --repository.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from perf.errors import PerfError
from perf.measure import Progress
from perf.record import Aim, Cell, Record, Table
from perf.stand import add_server_arguments, newest_artefact, serving

if TYPE_CHECKING:
    from perf import evaluation_sets
    from train.crowd import systems as counters
    from train.facefilter import systems as separators

SDRI_BOUND_DB, MAE_BOUND_PERCENT = 0.1, 0.5
WEIGHTS = Path("train/weights")
# Trained networks whose weights the torch side reads; the other models have none.
_OF_SEPARATION = ("facefilter_separator", "facefilter_identity")
_OF_COUNTING = {"crowd_counting": ("cc-av", "crowd_av"), "crowd_counting_vision": ("cc-v", "crowd_v")}
_SEED = 2026
_EQUAL_DB = 150.0  # beyond the 24 bits of a float32


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `avedge perf accuracy`."""
    add_server_arguments(parser)
    parser.add_argument("--weights", type=Path, default=WEIGHTS, help="folder of torch's weights (%(default)s)")
    parser.add_argument("--mixtures", type=int, default=100, help="two-speaker mixtures (%(default)s)")
    parser.add_argument("--scenes", type=int, default=100, help="pictures with sound (%(default)s)")
    parser.add_argument("--talkers", type=Path, help="a corpus with mixtures/test.csv; default: synthetic talkers")
    parser.add_argument("--scenes-data", type=Path, help="a data set of crowds; default: drawn scenes with sound")
    parser.add_argument("--seed", type=int, default=_SEED, help="of what is made (%(default)s)")


def measure(args: argparse.Namespace, progress: Progress) -> Record:
    """Judge both tasks through both paths.

    Raises:
        PerfError: no mixtures or scenes are asked for (2), or other weights are served than torch would read (6).
        TrainError: data or weights cannot be read.
        ClientError: the server does not answer, or serves something else.
    """
    from perf import evaluation_sets
    from perf.served import Server
    from train.environment import command_line, stamp

    evaluation_sets.require_number("--mixtures", args.mixtures)
    evaluation_sets.require_number("--scenes", args.scenes)
    if not args.url:
        require_same_weights(args.repository, args.weights)
    environment = stamp(command_line())
    with tempfile.TemporaryDirectory(prefix="avedge-perf-") as scratch, serving(args) as url:
        server = Server(url)
        environment |= {"tritonserver": server.version()}
        server.close()
        progress("making or reading mixtures and scenes")
        talk = evaluation_sets.mixtures(args.mixtures, args.seed, Path(scratch, "talkers"), args.talkers)
        crowds = evaluation_sets.scenes(args.scenes, args.seed, Path(scratch, "scenes"), args.scenes_data)
        separation = _separation(url, talk, args.weights, progress)
        counting = _counting(url, crowds, args.weights, progress)
    settings = {
        "mixtures": {"number": len(talk.rows), "origin": talk.origin},
        "scenes": {"number": len(crowds.scenes), "origin": crowds.origin, "heard": crowds.heard},
        "precision": None if args.url else _precisions(args.repository),
    }
    figures = {"separation": separation, "counting": counting}
    return Record("accuracy", environment, settings, figures, tuple(aims_of(figures)))


def tables(record: Record) -> list[Table]:
    """Torch and served beside each other, for each task."""
    separation: list[tuple[Cell, ...]] = []
    for ensemble, found in record.figures["separation"].items():
        own, served = found["torch"], found["served"]
        change = served["sdri_db"] - own["sdri_db"]
        separation.append(
            (ensemble, own["n"], own["sdri_db"], served["sdri_db"], change)
            + (100 * own["accuracy"], 100 * served["accuracy"], found["agreement_db"]["median"])
        )
    counting: list[tuple[Cell, ...]] = []
    for ensemble, found in record.figures["counting"].items():
        own, served = found["torch"], found["served"]
        counting.append(
            (ensemble, own["n"], own["mae"], served["mae"], 100 * (served["mae"] / own["mae"] - 1))
            + (own["rmse"], served["rmse"], found["largest_difference_people"])
        )
    mixtures, scenes = record.settings["mixtures"], record.settings["scenes"]
    return [
        Table(
            "separation through the server",
            ("ensemble", "n", "SDRi, torch", "served", "change dB") + ("right voice %, torch", "served", "agree to dB"),
            tuple(separation),
            f"Mixtures: {mixtures['origin']}. Agree to: median SNR of the served waveform against torch's.",
            digits=3,
        ),
        Table(
            "counting through the server",
            ("ensemble", "n", "MAE, torch", "served", "change %") + ("RMSE, torch", "served", "largest change"),
            tuple(counting),
            f"Pictures: {scenes['origin']}. Largest change: of one picture's count, in people."
            + ("" if scenes["heard"] else " Some have no sound, so crowd_counting was not asked."),
            digits=3,
        ),
    ]


def require_same_weights(repository: Path, weights: Path) -> None:
    """See that what is served was exported from the weights that torch will read.

    Raises:
        PerfError: it was not (6).
    """
    import hashlib

    for model in (*_OF_SEPARATION, *(model for _, model in _OF_COUNTING.values())):
        exported = _manifest(repository, model).get("weights_sha256")
        path = weights / f"{model}.safetensors"
        own = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None
        if exported != own:
            raise PerfError(
                f"{repository} serves a {model} made from weights {_short(exported)}, and {path} is {_short(own)}. "
                "Wanted the same on both sides, because their difference is to be the server's alone. Export these "
                "weights (avedge export), or name the others with --weights.",
                exit_code=6,
            )


def _short(digest: str | None) -> str:
    return digest[:12] if digest else "not there"


def _manifest(repository: Path, model: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(newest_artefact(repository, model, "manifest.json").read_text())
    return content


def _precisions(repository: Path) -> dict[str, str]:
    """What each trained network computes in."""
    models = (*_OF_SEPARATION, *(model for _, model in _OF_COUNTING.values()))
    return {model: str(_manifest(repository, model).get("precision", "unknown")) for model in models}


class _KeptVoices:
    """A separating system that keeps what it gave."""

    blind = False

    def __init__(self, system: separators.System) -> None:
        self._system = system
        self.voices: list[separators.Waveforms] = []  # (N,) each

    def separate(
        self, mixture: separators.Waveforms, faces: separators.Faces, other_faces: separators.Faces
    ) -> separators.Waveforms:
        voices = self._system.separate(mixture, faces, other_faces)
        self.voices += list(voices[:, 0])
        return voices

    def describe(self) -> dict[str, Any]:
        return self._system.describe()


class _KeptCounts:
    """A counting system that keeps what it gave."""

    def __init__(self, system: counters.System) -> None:
        self._system = system
        self.model, self.geometry = system.model, system.geometry
        self.hears, self.view = system.hears, system.view
        self.people: list[float] = []

    def count(self, observed: Sequence[counters.Observed]) -> list[counters.Counted]:
        counted = self._system.count(observed)
        self.people += [one.people for one in counted]
        return counted

    def describe(self) -> dict[str, Any]:
        return self._system.describe()


def _separation(url: str, talk: evaluation_sets.Mixtures, weights: Path, progress: Progress) -> dict[str, Any]:
    """Figures of both ensembles, each beside torch's."""
    from perf.served_systems import EnrolledSystem, ServedSystem
    from train.facefilter.evaluation import evaluate
    from train.facefilter.systems import Decoder, find_weights, load_system

    plain = ServedSystem(url)
    served: dict[str, separators.System] = {"facefilter": plain, "facefilter_enrolled": EnrolledSystem(url)}
    decoder = Decoder(plain.served.integer("griffin_lim_iterations"))

    def judged(name: str, system: separators.System) -> tuple[dict[str, Any], list[separators.Waveforms]]:
        progress(f"{len(talk.rows)} mixtures through {name}")
        kept = _KeptVoices(system)
        report = evaluate(talk.root, talk.rows, kept, decoder, among=talk.among)
        overall = {key: report["overall"][key] for key in ("n", "undefined", "sdri_db", "si_sdri_db", "accuracy")}
        return overall | {"system": report["system"], "seconds": report["seconds"]}, kept.voices

    own, own_voices = judged("torch", load_system(find_weights(weights), decoder))
    found = {}
    for name, system in served.items():
        answered, voices = judged(name, system)
        agreements = [agreement_db(*pair) for pair in zip(voices, own_voices, strict=True)]
        found[name] = {
            "torch": own,
            "served": answered,
            "agreement_db": {"median": statistics.median(agreements), "lowest": min(agreements)},
        }
    return found


def _counting(url: str, crowds: evaluation_sets.Scenes, weights: Path, progress: Progress) -> dict[str, Any]:
    """Figures of both ensembles, each beside torch's; of the hearing one only where there is something to hear."""
    from perf.served_systems import ServedCounter
    from train.crowd.evaluation import Options, evaluate
    from train.crowd.systems import TorchSystem, View, find_weights

    def judged(name: str, system: counters.System) -> tuple[dict[str, Any], list[float]]:
        progress(f"{len(crowds.scenes)} pictures through {name}")
        kept = _KeptCounts(system)
        report = evaluate(crowds.scenes, kept, Options())
        wanted = ("n", "mean_people", "mae", "rmse", "count_correlation", "system", "seconds")
        return {key: report[key] for key in wanted}, kept.people

    found = {}
    for ensemble, (model, _) in _OF_COUNTING.items():
        hears = model == "cc-av"
        if hears and not crowds.heard:
            continue
        own, own_people = judged(f"torch, {model}", TorchSystem(find_weights(weights, model)))
        answered, people = judged(ensemble, ServedCounter(url, hears, View()))
        differences = [abs(one - other) for one, other in zip(people, own_people, strict=True)]
        found[ensemble] = {"torch": own, "served": answered, "largest_difference_people": max(differences)}
    return found


def agreement_db(served: separators.Waveforms, own: separators.Waveforms) -> float:
    """SNR of the served waveform (N,) with torch's (N,) as the signal, dB; at most 150, which equal ones have."""
    import numpy as np

    signal, noise = (float(np.sum(np.square(values, dtype=np.float64))) for values in (own, served - own))
    if not signal or not noise:
        return -_EQUAL_DB if noise else _EQUAL_DB
    return min(_EQUAL_DB, 10 * math.log10(signal / noise))


def aims_of(figures: dict[str, Any]) -> list[Aim]:
    """SDRi within 0.1 dB and MAE within 0.5 % of torch's, to either side."""
    aims = []
    for name, found in figures["separation"].items():
        change_db = abs(found["served"]["sdri_db"] - found["torch"]["sdri_db"])
        aims.append(Aim(f"{name}: SDRi served against torch", change_db, SDRI_BOUND_DB, at_least=False, unit="dB"))
    for name, found in figures["counting"].items():
        change_percent = 100 * abs(found["served"]["mae"] / found["torch"]["mae"] - 1)
        aims.append(
            Aim(f"{name}: MAE served against torch", change_percent, MAE_BOUND_PERCENT, at_least=False, unit="%")
        )
    return aims
