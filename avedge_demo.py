"""Everything once: synthetic samples, export, serve, both clients, a short load test; one folder with the results.

avedge demo
avedge demo --output demo --no-perf
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from clients.outputs import prepare_folder

if TYPE_CHECKING:
    from clients import CrowdCounter, SpeechSeparator
    from perf.results import SweepResult

log = logging.getLogger(__name__)
Result = TypeVar("Result")
REPORT, FIGURES = "report.md", "report.json"
SAMPLES = "samples"


@dataclass(frozen=True)
class Separation:
    """What came of one mixture; SDR in dB, 512-tap BSS-eval."""

    number: int
    target: str
    interferer: str
    sdr_before_db: float
    sdr_after_db: float
    right_talker: bool  # the voice is nearer to the face's owner than to the other talker
    server_s: float

    @property
    def gain_db(self) -> float:
        """SDR improvement."""
        return self.sdr_after_db - self.sdr_before_db


@dataclass(frozen=True)
class Counted:
    """What came of one scene."""

    number: int
    people: int
    with_sound: float
    by_sight: float
    server_s: float


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `avedge demo`."""
    parser.add_argument("--output", type=Path, default=Path("demo"), help="folder of the results (%(default)s)")
    parser.add_argument("--repository", type=Path, default=Path("model_repository"), help="Triton model repository")
    parser.add_argument("--no-perf", action="store_true", help="leave the load test out")


def run(arguments: argparse.Namespace) -> int:
    """Carry out the demonstration and print its headline figures."""
    from clients import CrowdCounter, SpeechSeparator
    from serve.launcher import EmbeddedTriton
    from train.synthetic.samples import make_samples

    output: Path = arguments.output
    prepare_folder(output)
    began = time.monotonic()
    index = _step("synthetic talkers and crowds", lambda: make_samples(output / SAMPLES))
    _step(
        "export, each artefact held against torch (a minute or two the first time)",
        lambda: _export(arguments.repository),
    )
    server = EmbeddedTriton(arguments.repository, log_path=output / "server.log")
    try:
        _step("Triton on loopback", server.start)
        with SpeechSeparator(server.grpc_url) as separator, CrowdCounter(server.grpc_url) as counter:
            voices = _step("voices by their faces", lambda: _separate_all(separator, index, output))
            crowds = _step("people in pictures", lambda: _count_all(counter, index, output))
        load = None if arguments.no_perf else _step("load test", lambda: _measure(server.grpc_url, output))
    finally:
        server.stop()
    _write_report(output, voices, crowds, load, seconds=time.monotonic() - began)
    sys.stdout.write("\n".join(_headlines(voices, crowds, load, output)) + "\n")
    return 0


def _step(name: str, action: Callable[[], Result]) -> Result:
    """Do one part of the demonstration and say how long it took."""
    log.info("… %s", name)
    began = time.monotonic()
    result = action()
    log.info("  done in %.1f s", time.monotonic() - began)
    return result


def _export(repository: Path) -> None:
    from avedge import main

    if main(["export", "--repository", str(repository), "--if-needed"]):
        raise SystemExit("avedge: the export failed, see above; the demonstration ends here.")


def _separate_all(separator: SpeechSeparator, index: dict[str, Any], output: Path) -> list[Separation]:
    """Give every mixture its face, keep voice and spectrogram, and judge the voice against the truth."""
    import soundfile
    import torch

    from train.facefilter.metrics import sdr_db

    found = []
    for mixture in index["mixtures"]:
        number = mixture["number"]
        files = {name: output / SAMPLES / f"{name}_{number}.wav" for name in ("mixture", "target")}
        answer = separator.separate(files["mixture"], output / SAMPLES / f"portrait_{number}.png")
        answer.save(output / f"voice_{number}.wav")
        answer.plot(output / f"voice_{number}.png")
        mixed, target = (torch.from_numpy(soundfile.read(path, dtype="float64")[0]) for path in files.values())
        voice = torch.from_numpy(answer.speech)
        after = float(sdr_db(voice, target))
        found.append(
            Separation(
                number,
                mixture["target"],
                mixture["interferer"],
                sdr_before_db=float(sdr_db(mixed, target)),
                sdr_after_db=after,
                right_talker=after > float(sdr_db(voice, mixed - target)),
                server_s=answer.timings_s["server"],
            )
        )
    return found


def _count_all(counter: CrowdCounter, index: dict[str, Any], output: Path) -> list[Counted]:
    """Count every scene with its sound and without."""
    found = []
    for scene in index["scenes"]:
        stem = output / SAMPLES / f"scene_{scene['number']}"
        heard = counter.count(stem.with_suffix(".jpg"), stem.with_suffix(".wav"))
        seen = counter.count(stem.with_suffix(".jpg"))
        heard.plot(output / f"count_{scene['number']}.png")
        server_s = heard.timings_s["server"]
        found.append(Counted(scene["number"], scene["people"], heard.count, seen.count, server_s))
    return found


def _measure(url: str, output: Path) -> SweepResult:
    """A short closed-loop sweep with the samples as input."""
    from perf.measure import SweepSettings
    from perf.sweep import sweep

    settings = SweepSettings(concurrencies=(1, 2), window_s=2.0, attempts=1)
    return sweep(url, output / SAMPLES, settings=settings, progress=lambda line: log.info("  %s", line))


def _headlines(voices: list[Separation], crowds: list[Counted], load: SweepResult | None, output: Path) -> list[str]:
    """The figures worth a glance."""
    gains = [voice.gain_db for voice in voices if voice.target != voice.interferer]
    right = sum(voice.right_talker for voice in voices)
    error = sum(abs(crowd.with_sound - crowd.people) for crowd in crowds) / len(crowds)
    mean = sum(crowd.people for crowd in crowds) / len(crowds)
    lines = [
        f"separation  {right} of {len(voices)} right talkers; man from woman and woman from man "
        f"SDR {sum(gains) / len(gains):+.1f} dB",
        f"counting    {error:.1f} people off on average, of {mean:.0f}",
    ]
    for ensemble in load.ensembles if load else ():
        best = max((level.client for level in ensemble.levels), key=lambda client: client.inferences_per_s)
        lines.append(
            f"load        {ensemble.ensemble}: {best.inferences_per_s:.1f} per second, p95 {best.p95_ms:.0f} ms"
        )
    return [*lines, f"results     {output / REPORT}"]


def _write_report(
    output: Path, voices: list[Separation], crowds: list[Counted], load: SweepResult | None, *, seconds: float
) -> None:
    """Write the report for people and the figures for programs."""
    from perf.sweep_tables import markdown
    from train.files import write_atomically

    lines = [
        "# avedge demonstration",
        "",
        "Synthetic talkers and crowds through the exported models, the embedded Triton and the clients.",
        f"Everything took {seconds:.0f} s.",
        *_voice_section(voices),
        *_crowd_section(crowds),
    ]
    if load is not None:
        lines += ["", "## Load", "", markdown(load)]
    write_atomically(output / REPORT, ("\n".join(lines) + "\n").encode())
    figures = {
        "separation": [asdict(voice) | {"gain_db": voice.gain_db} for voice in voices],
        "counting": [asdict(crowd) for crowd in crowds],
        "load": load.as_record().as_json() if load else None,
        "seconds": seconds,
    }
    write_atomically(output / FIGURES, json.dumps(figures, indent=2).encode())


def _voice_section(voices: list[Separation]) -> list[str]:
    lines = [
        "",
        "## One voice by a photo of the face",
        "",
        "SDR is BSS-eval's with 512 taps against the voice as mixed. The right talker is the one whose face was given.",
        "",
        "| mixture | target, interferer | SDR before | SDR after | gain | right talker | server |",
        "|---|---|---|---|---|---|---|",
    ]
    for voice in voices:
        cells = (
            f"[{voice.number}]({SAMPLES}/mixture_{voice.number}.wav)",
            f"{voice.target}, {voice.interferer}",
            f"{voice.sdr_before_db:.1f} dB",
            f"[{voice.sdr_after_db:.1f} dB](voice_{voice.number}.wav)",
            f"{voice.gain_db:+.1f} dB",
            "yes" if voice.right_talker else "no",
            f"{voice.server_s * 1000:.0f} ms",
        )
        lines.append(f"| {' | '.join(cells)} |")
    return [*lines, "", *(f"![mixture and voice {voice.number}](voice_{voice.number}.png)" for voice in voices)]


def _crowd_section(crowds: list[Counted]) -> list[str]:
    lines = [
        "",
        "## People in a picture",
        "",
        "| scene | people | picture and sound | picture alone | server |",
        "|---|---|---|---|---|",
    ]
    for crowd in crowds:
        cells = (
            f"[{crowd.number}]({SAMPLES}/scene_{crowd.number}.jpg)",
            f"{crowd.people}",
            f"{crowd.with_sound:.1f}",
            f"{crowd.by_sight:.1f}",
            f"{crowd.server_s * 1000:.0f} ms",
        )
        lines.append(f"| {' | '.join(cells)} |")
    return [*lines, "", *(f"![density of scene {crowd.number}](count_{crowd.number}.png)" for crowd in crowds)]
