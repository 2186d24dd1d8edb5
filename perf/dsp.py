"""STFT and Griffin-Lim: the exported forms against librosa, torch's FFT and a plain scipy loop, in turn, in one run.

The served graphs come from the model repository. Griffin-Lim with another number of iterations than is served is
exported for the measurement from the same module. Every contender answers the same problem after equally many
iterations; what it reaches, and how far it is from float64, is measured beside its time.
"""

from __future__ import annotations

import argparse
import itertools
import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from perf.bare_runtime import core_count
from perf.closed_loop import percentile
from perf.dsp_forms import OURS, Form, Forms
from perf.errors import PerfError
from perf.record import Aim, Cell, Record, Table
from perf.sweep import numbers_in
from train.environment import ROOT
from train.settings import GRIFFIN_LIM_ITERATIONS, SAMPLE_RATE_HZ, SOUND_SAMPLES

if TYPE_CHECKING:
    from perf.dsp_contenders import Array

HELP = "STFT and Griffin-Lim against librosa, torch and scipy"
_LIBROSA_TIMES, _SCIPY_TIMES = 3.0, 1.3
_FEWEST_ROUNDS = 5
_STFT_BECAUSE = (
    "TensorRT has no FFT, so the graph multiplies matrices: 81 thousand operations a frame where an FFT takes some 12 "
    "thousand. ONNX Runtime's profile: near half of the time goes into the two products, at the processor's own "
    "rate; the rest into cutting and windowing frames, bringing the bins into order, and the magnitude."
)
Work = Callable[[], object]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `avedge perf dsp`."""
    parser.add_argument("--repository", type=Path, default=ROOT / "model_repository", help="where the graphs lie")
    parser.add_argument("--iterations", type=numbers_in, default=(GRIFFIN_LIM_ITERATIONS, 10), help="(2,10)")
    parser.add_argument("--batches", type=numbers_in, default=(1, 4), help="items at a time (1,4)")
    parser.add_argument("--samples", type=numbers_in, default=(31_840, 127_840), help="at 16 kHz (31840,127840)")
    parser.add_argument("--seconds", type=float, default=5.0, help="for each comparison (%(default)s)")


def measure(args: argparse.Namespace, progress: Callable[[str], None]) -> Record:
    """Time every contender at every size, then judge every exported form against float64.

    Raises:
        PerfError: librosa or a served graph is absent, or a size cannot be transformed.
    """
    from train.environment import command_line, stamp

    _refuse_unusable(args)
    cores = core_count()
    progress("reading and exporting the graphs")
    forms = Forms(args.repository, cores)
    comparisons: list[dict[str, Any]] = []
    for batch, samples in itertools.product(args.batches, args.samples):
        progress(f"STFT: batch {batch}, {samples / SAMPLE_RATE_HZ:.2f} s")
        comparisons.append(_compare_stft(forms, batch, samples, args.seconds))
        for iterations in args.iterations:
            progress(f"Griffin-Lim, {iterations} iterations: batch {batch}, {samples / SAMPLE_RATE_HZ:.2f} s")
            comparisons.append(_compare_griffin_lim(forms, iterations, batch, samples, args.seconds))
    progress("errors against float64")
    figures = {"comparisons": comparisons, "errors": _errors(forms, args.iterations, args.samples[0])}
    settings = {key: getattr(args, key) for key in ("iterations", "batches", "samples", "seconds")} | {"cores": cores}
    return Record("dsp", stamp(command_line()), settings, figures, _aims(comparisons))


def tables(record: Record) -> list[Table]:
    """Times of both transforms, what Griffin-Lim reaches, and the errors of the exported forms."""
    rows: dict[bool, list[tuple[Cell, ...]]] = {True: [], False: []}
    for found in record.figures["comparisons"]:
        seconds = found["samples"] / SAMPLE_RATE_HZ
        for name, one in found["contenders"].items():
            start = (name, found["batch"], seconds, one["p50_ms"], one["p95_ms"], found["librosa_over"][name])
            if found["iterations"] is None:
                rows[True].append(start)
            else:
                rows[False].append((start[0], found["iterations"], *start[1:], one["convergence_db"]))
    note = "Each gives magnitude and spectrum. times librosa: librosa's median over this one's."
    return [
        Table("STFT", ("contender", "batch", "s", "p50 ms", "p95 ms", "times librosa"), tuple(rows[True]), note, 2),
        Table(
            "Griffin-Lim",
            ("contender", "iterations", "batch", "s", "p50 ms", "p95 ms", "times librosa", "convergence dB"),
            tuple(rows[False]),
            "convergence: distance of the magnitude reached from the wanted, lower is better. All start from the "
            "mixture's phase but librosa, which takes a random or a zero one only; its momentum is off.",
            2,
        ),
        Table(
            "error against float64",
            ("output", *record.figures["errors"]),
            tuple(
                (name, *(form[name] for form in record.figures["errors"].values()))
                for name in next(iter(record.figures["errors"].values()))
            ),
            "Power of the difference over the power of float64's answer, in dB.",
        ),
    ]


def plot(record: Record, path: Path) -> None:
    """Medians of the smallest Griffin-Lim with the most iterations."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    found = max(
        (one for one in record.figures["comparisons"] if one["iterations"] is not None),
        key=lambda one: (one["iterations"], -one["batch"], -one["samples"]),
    )
    names = list(found["contenders"])
    figure, axis = pyplot.subplots(figsize=(7, 0.4 * len(names) + 1))
    times = [found["contenders"][name]["p50_ms"] for name in names]
    axis.barh(names, times, color=["tab:blue" if name.startswith(OURS) else "tab:grey" for name in names])
    axis.invert_yaxis()
    axis.set(xlabel="ms", title=f"Griffin-Lim, {found['iterations']} iterations of {found['samples']} samples")
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def _refuse_unusable(args: argparse.Namespace) -> None:
    try:
        import librosa  # noqa: F401
    except ImportError as error:
        raise PerfError(
            "librosa is not installed; it is one of those that ours is compared with. Run pip install 'avedge[dev]'.", 2
        ) from error
    unusable = [samples for samples in args.samples if samples < 320 or samples % 160]
    if unusable or min(args.batches) < 1 or min(args.iterations) < 1:
        raise PerfError(
            f"--samples {args.samples}, --batches {args.batches}, --iterations {args.iterations}: wanted multiples of "
            "160 from 320 on, and numbers from 1; the STFT has hops of 160 samples. Give others.",
            2,
        )


def _compare_stft(forms: Forms, batch: int, samples: int, seconds: float) -> dict[str, Any]:
    from perf.dsp_contenders import draw_problem, stft_contenders

    waveform = draw_problem(batch, samples).mixture
    calls: dict[str, Work] = {name: _bound(form, waveform) for name, form in forms.of("facefilter_stft").items()}
    calls |= stft_contenders(waveform, forms.threads[-1])
    return _comparison(None, batch, samples, in_turn(calls, seconds))


def _compare_griffin_lim(forms: Forms, iterations: int, batch: int, samples: int, seconds: float) -> dict[str, Any]:
    from perf.dsp_contenders import convergence_db, draw_problem, griffin_lim_contenders

    problem = draw_problem(batch, samples)
    ours = forms.of("facefilter_griffin_lim", iterations)
    calls = {name: _bound(form, *problem.tensors) for name, form in ours.items()}
    calls |= griffin_lim_contenders(problem, iterations, forms.threads[-1])
    times = in_turn(calls, seconds)
    for name, call in calls.items():
        times[name]["convergence_db"] = convergence_db(call(), problem.wanted)
    return _comparison(iterations, batch, samples, times)


def _bound(form: Form, *inputs: Array) -> Callable[[], Array]:
    return lambda: form(*inputs)


def in_turn(calls: Mapping[str, Work], seconds: float) -> dict[str, dict[str, float]]:
    """Time calls alternately until the time is up: each once warm, then once timed, round after round."""
    latencies: dict[str, list[float]] = {name: [] for name in calls}
    ends = time.perf_counter() + seconds
    for call in (*calls.values(), *calls.values()):
        call()
    while time.perf_counter() < ends or len(next(reversed(latencies.values()))) < _FEWEST_ROUNDS:
        for name, call in calls.items():
            call()
            began = time.perf_counter()
            call()
            latencies[name].append(1000 * (time.perf_counter() - began))
    ordered = {name: sorted(found) for name, found in latencies.items()}
    return {
        name: {"p50_ms": percentile(found, 50), "p95_ms": percentile(found, 95), "rounds": len(found)}
        for name, found in ordered.items()
    }


def _comparison(
    iterations: int | None, batch: int, samples: int, contenders: dict[str, dict[str, float]]
) -> dict[str, Any]:
    librosa_ms = contenders["librosa"]["p50_ms"]
    over = {name: librosa_ms / found["p50_ms"] for name, found in contenders.items()}
    return {
        "iterations": iterations,
        "batch": batch,
        "samples": samples,
        "contenders": contenders,
        "librosa_over": over,
    }


def _errors(forms: Forms, iterations: tuple[int, ...], samples: int) -> dict[str, dict[str, float]]:
    """Error in dB of every form, by output."""
    import numpy as np

    from perf.dsp_contenders import crowd_log_mel, draw_problem, error_db, reference

    problem = draw_problem(2, samples)
    sound = draw_problem(2, SOUND_SAMPLES).mixture
    spectrum = np.stack([problem.spectrum.real, problem.spectrum.imag], axis=1)
    outputs: dict[str, tuple[str, int | None, tuple[Array, ...], Array]] = {
        "spectrum": ("facefilter_stft", None, (problem.mixture,), spectrum),
        "crowd log-mel": ("crowd_log_mel", None, (sound,), crowd_log_mel(sound)),
    }
    for count in iterations:
        solved = reference(problem, count)
        outputs[f"speech, {count} iterations"] = ("facefilter_griffin_lim", count, problem.tensors, solved)
    found: dict[str, dict[str, float]] = {"ONNX dB": {}, "TorchScript dB": {}}
    for output, (name, repeats, inputs, wanted) in outputs.items():
        ways = forms.of(name, repeats)
        for kind, way in (("ONNX dB", f"{OURS}ONNX, 1 thread"), ("TorchScript dB", f"{OURS}TorchScript")):
            found[kind][output] = error_db(ways[way](*inputs), wanted)
    return found


def _aims(comparisons: list[dict[str, Any]]) -> tuple[Aim, ...]:
    """The aims hold for the shortest single item, which is what a server's CPU is asked for most."""
    first = [one for one in comparisons if (one["batch"], one["samples"]) == _smallest(comparisons)]
    return tuple(aim for found in first for aim in _aims_of(found))


def _smallest(comparisons: list[dict[str, Any]]) -> tuple[int, int]:
    return min((one["batch"], one["samples"]) for one in comparisons)


def _aims_of(found: dict[str, Any]) -> list[Aim]:
    contenders = found["contenders"]
    ours_ms = _best_ms(contenders, f"{OURS}ONNX")
    over_librosa = contenders["librosa"]["p50_ms"] / ours_ms
    if found["iterations"] is None:
        return [Aim("STFT: speed over librosa's", over_librosa, _LIBROSA_TIMES, because=_STFT_BECAUSE)]
    what = f"Griffin-Lim, {found['iterations']} iterations"
    gain_db = contenders["librosa"]["convergence_db"] - _convergence_db(contenders)
    over_scipy = ours_ms / _best_ms(contenders, "scipy loop")
    return [
        Aim(f"{what}: speed over librosa's", over_librosa, _LIBROSA_TIMES),
        Aim(f"{what}: spectral convergence below librosa's", gain_db, 0.0, unit="dB"),
        Aim(f"{what}: time over the scipy loop's", over_scipy, _SCIPY_TIMES, at_least=False),
    ]


def _best_ms(contenders: dict[str, dict[str, float]], start: str) -> float:
    return min((one["p50_ms"] for name, one in contenders.items() if name.startswith(start)), default=math.nan)


def _convergence_db(contenders: dict[str, dict[str, float]]) -> float:
    """The worse of ours."""
    return max(one["convergence_db"] for name, one in contenders.items() if name.startswith(OURS))
