"""The graphs of an ensemble in bare ONNX Runtime, in this process: what serving is held against.

Wiring, files and what is cached are read from the served configs, so both sides do the same work. A model with a
response cache keeps its answers here too, by the same rule as the server: a 64-bit hash of the input.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from perf.bare_runtime import open_session
from perf.closed_loop import Rates, closed_loop
from perf.errors import PerfError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from perf.inputs import Request

    Tensors = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Way:
    """How the graphs are run."""

    workers: int  # threads that each take a batch through all graphs
    threads: int  # of ONNX Runtime, inside each graph
    batch: int  # requests that a worker takes at once
    spinning: bool = False  # whether its threads spin while they wait

    def __str__(self) -> str:
        spin = ", spinning" if self.spinning else ""
        return f"{self.workers} x {self.threads} threads, batch {self.batch}{spin}"


def ways(cores: int, batches: Sequence[int] = (1, 2, 4, 8)) -> list[Way]:
    """What is tried: a worker for each core, one for all cores, and between, each with several batches."""
    found = [Way(cores, 1, batch) for batch in batches]
    if cores > 1:
        found += [Way(cores + 1, 1, 1)]
        found += [Way(1, cores, batch, spinning) for batch in batches[::2] for spinning in (False, True)]
    if cores > 3:
        found += [Way(cores // 2, 2, batch) for batch in batches[::2]]
    return found


class BareEnsemble:
    """One ensemble's graphs, opened for one number of threads; any number of workers may call it."""

    def __init__(self, repository: Path, ensemble: str, *, threads: int, spinning: bool, target: str = "onnxruntime"):
        """Open every graph.

        Args:
            repository: Triton model repository with exported models.
            ensemble: Such as `facefilter`.
            threads: Of ONNX Runtime, inside each graph.
            spinning: Whether its threads spin while they wait.
            target: Whose configs say how the graphs are wired.

        Raises:
            PerfError: The repository has no such ensemble (6).
        """
        from serve.repository import read_repository

        models = {model.name: model for model in read_repository(repository, target)}
        if ensemble not in models or not models[ensemble].is_ensemble:
            raise PerfError(
                f"{repository} has no ensemble {ensemble}, whose graphs were to be run; it has {', '.join(models)}. "
                "Name a repository that `avedge export` made.",
                exit_code=6,
            )
        config = models[ensemble].config
        self.outputs = tuple(tensor.name for tensor in config.output)
        self._steps = []
        for step in config.ensemble_scheduling.step:
            model = models[step.model_name]
            file = model.folder / str(max(model.versions)) / model.config.default_model_filename
            run = _runner(file, dict(step.input_map), dict(step.output_map), threads, spinning)
            self._steps.append(_Cached(run, tuple(step.input_map.values())) if _is_cached(model.config) else run)

    def answer(self, tensors: Tensors) -> Tensors:
        """The ensemble's outputs for a batch, (rows, ...) each."""
        known = dict(tensors)
        for step in self._steps:
            known |= step(known)
        return {name: known[name] for name in self.outputs}


def _is_cached(config: Any) -> bool:
    return bool(config.response_cache.enable)


def _runner(
    file: Path, inputs: dict[str, str], outputs: dict[str, str], threads: int, spinning: bool
) -> Callable[[Tensors], Tensors]:
    """One graph, from the ensemble's tensors to the ensemble's tensors."""
    session = open_session(file, threads, spinning=spinning)
    inner, outer = list(outputs), list(outputs.values())

    def run(known: Tensors) -> Tensors:
        answers = session.run(inner, {name: known[tensor] for name, tensor in inputs.items()})
        return dict(zip(outer, answers, strict=True))

    return run


class _Cached:
    """A graph that is run once for each distinct row of its input."""

    def __init__(self, run: Callable[[Tensors], Tensors], inputs: tuple[str, ...]) -> None:
        self._run, self._inputs = run, inputs
        self._answers: dict[int, Tensors] = {}

    def __call__(self, known: Tensors) -> Tensors:
        import numpy as np

        rows = [self._row(known, index) for index in range(len(known[self._inputs[0]]))]
        return {name: np.concatenate([row[name] for row in rows]) for name in rows[0]}

    def _row(self, known: Tensors, index: int) -> Tensors:
        row = {name: known[name][index : index + 1] for name in self._inputs}
        key = hash(tuple(array.tobytes() for array in row.values()))
        if key not in self._answers:
            self._answers[key] = self._run(row)
        return self._answers[key]


def load(ensemble: BareEnsemble, way: Way, requests: Sequence[Request], seconds: float) -> Rates:
    """Keep every worker busy with batches of the requests in turn.

    Returns:
        Requests per second and the batches' latencies.
    """
    import numpy as np

    turns = range(len(requests))
    batches = [
        {
            name: np.stack([requests[(start + row) % len(requests)][name] for row in range(way.batch)])
            for name in requests[0]
        }
        for start in turns
    ]

    def call(worker: int, number: int) -> None:
        ensemble.answer(batches[(worker + number) * way.batch % len(batches)])

    rates = closed_loop(call, workers=way.workers, seconds=seconds)
    return Rates(rates.per_s * way.batch, rates.p50_ms, rates.p95_ms, rates.p99_ms, rates.count * way.batch)
