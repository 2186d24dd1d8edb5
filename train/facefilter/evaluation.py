"""A list of mixtures judged: read and mixed in worker processes, separated here in batches, scored in the workers."""

from __future__ import annotations

import itertools
import logging
import multiprocessing
import signal
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch

from train.corpus.mixtures import PAIRS, SUBSETS, Mixture
from train.errors import TrainError
from train.facefilter.listed import Loaded, Request, Skipped, load, requests_for
from train.facefilter.scoring import Figures, score_outputs, summarise
from train.facefilter.systems import Decoder, System, Waveforms
from train.progress import told

log = logging.getLogger(__name__)
BATCH = 16
_AHEAD = 2 * BATCH  # rows that the workers have in hand beyond what was asked for
Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Options:
    """What is judged beside the system's output.

    Args:
        swap: give the interferer's face as well, and see whose voice comes out.
        oracle: a perfect ratio mask's ceiling with the same decoder.
        photos: stills of each face, their identities averaged.
        both_faces: whether the system wants the interferer's face.
        jobs: worker processes; 0 does all in this one. The figures do not depend on it.
    """

    swap: bool = False
    oracle: bool = False
    photos: int = 1
    both_faces: bool = False
    jobs: int = 0


@dataclass(frozen=True)
class Judged:
    """A row's figures."""

    row: Mixture
    figures: dict[str, Figures]
    drawn: int
    blindly: int


def evaluate(
    root: Path,
    rows: Sequence[Mixture],
    system: System,
    decoder: Decoder,
    options: Options | None = None,
    *,
    among: Sequence[Mixture] | None = None,
) -> dict[str, Any]:
    """Judge a system on a list of mixtures.

    Args:
        root: what the list's paths are relative to.
        rows: those to judge.
        system: what separates.
        decoder: of the oracle's masks.
        options: what else to judge.
        among: the whole list, in which speakers' other recordings are looked for, where `rows` is a part of it.

    Returns:
        `overall`, `pairs` and, where the list has several, `corpora` and `subsets` with what `summarise` gives;
        `table2`: means of the subsets' rows, as the paper sums up Table 3; `drawn_faces`, and of them
        `drawn_by_sex_alone`; `skipped`: id and reason of every row that could not be judged; `system`; `seconds` and
        `mixtures_per_s`.

    Raises:
        TrainError: no row could be judged.
    """
    options = options or Options()
    began = time.monotonic()
    wanted = {id(row) for row in rows}
    prepared = requests_for(root, among or rows, photos=options.photos, both=options.swap or options.both_faces)
    requests = [request for request in prepared if id(request.row) in wanted]
    skipped: list[Skipped] = []
    with _workers(options.jobs) as pool:
        judged = list(told(_judge(requests, system, decoder, options, pool, skipped), len(requests), "mixtures"))
    for missed in skipped:
        log.warning("skipped %s: %s", missed.id, missed.reason)
    if not judged:
        raise TrainError(
            f"None of {len(rows)} mixtures could be judged; the first reason: {skipped[0].id}: {skipped[0].reason}. "
            "Check the list and the root folder of its paths (--root)."
        )
    seconds = time.monotonic() - began
    log.info("%d mixtures judged in %.0f s, %.1f a second", len(judged), seconds, len(judged) / seconds)
    return {
        **tabulate(judged),
        "drawn_faces": sum(row.drawn for row in judged),
        "drawn_by_sex_alone": sum(row.blindly for row in judged),
        "skipped": [{"id": missed.id, "reason": missed.reason} for missed in skipped],
        "system": system.describe(),
        "seconds": round(seconds, 1),
        "mixtures_per_s": round(len(judged) / seconds, 2),
    }


def tabulate(judged: Sequence[Judged]) -> dict[str, Any]:
    """Sum figures up: `overall`, `pairs`, `corpora` if of several, `subsets` and `table2` where rows name subsets."""

    def by_pair(rows: Sequence[Judged]) -> dict[str, Any]:
        return {pair: summarise([row.figures for row in rows if row.row.pair == pair]) for pair in PAIRS}

    table = {"overall": summarise([row.figures for row in judged]), "pairs": by_pair(judged)}
    members = {name: [row for row in judged if row.row.subset == name] for name in SUBSETS}
    subsets = {name: by_pair(rows) for name, rows in members.items() if rows}
    corpora = list(dict.fromkeys(row.row.corpus for row in judged))
    if len(corpora) > 1:
        table["corpora"] = {
            name: summarise([row.figures for row in judged if row.row.corpus == name]) for name in corpora
        }
    if subsets:
        table["subsets"] = subsets
        table["table2"] = mean_of_rows([row for pairs in subsets.values() for row in pairs.values()])
    return table


def mean_of_rows(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Plain means over rows of Table 3, as the paper's Table 2 is made of them; empty rows are left out."""
    filled = [row for row in rows if row["n"]]
    means: dict[str, Any] = {"rows": len(filled), "n": sum(row["n"] for row in filled)}
    for name in ("sdri_db", "si_sdri_db", "snri_db", "accuracy", "accuracy_b", "accuracy_c"):
        values = [row[name] for row in filled if row[name] is not None]
        means[name] = sum(values) / len(values) if values else None
    if filled and "best_permutation" in filled[0]:
        means["best_permutation"] = mean_of_rows([row["best_permutation"] for row in filled])
    return means


def _judge(
    requests: Iterable[Request],
    system: System,
    decoder: Decoder,
    options: Options,
    pool: ProcessPoolExecutor | None,
    skipped: list[Skipped],
) -> Iterator[Judged]:
    """Judge row by row, in order; rows that cannot be judged go to `skipped`."""

    def usable() -> Iterator[Loaded]:
        for loaded in _ahead(pool, load, ((request,) for request in requests)):
            if isinstance(loaded, Skipped):
                skipped.append(loaded)
            else:
                yield loaded

    def separated() -> Iterator[tuple[Loaded, dict[str, Waveforms]]]:
        for batch in _batched(usable(), BATCH):
            outputs = _outputs(batch, system, decoder, options)
            for number, loaded in enumerate(batch):
                yield loaded, {name: voices[number] for name, voices in outputs.items()}

    waiting: deque[Loaded] = deque()

    def arguments() -> Iterator[tuple[Any, ...]]:
        for loaded, outputs in separated():
            waiting.append(loaded)
            yield loaded.mixture, loaded.target, loaded.interferer, outputs

    for figures in _ahead(pool, score_outputs, arguments()):
        loaded = waiting.popleft()
        yield Judged(loaded.row, figures, loaded.drawn, loaded.blindly)


def _outputs(batch: list[Loaded], system: System, decoder: Decoder, options: Options) -> dict[str, Waveforms]:
    """What was made of a batch, by name, (B, V, N)."""
    mixture, target, interferer = (
        np.stack([getattr(loaded, name) for loaded in batch]) for name in ("mixture", "target", "interferer")
    )
    faces, others = [loaded.face for loaded in batch], [loaded.other_face for loaded in batch]
    outputs = {"given": system.separate(mixture, faces, others)}
    if options.swap:
        outputs["swapped"] = system.separate(mixture, others, faces)
    if options.oracle:
        outputs["oracle"] = decoder.oracle(mixture, target, interferer)[:, np.newaxis]
    return outputs


def _workers(jobs: int) -> AbstractContextManager[ProcessPoolExecutor | None]:
    if not jobs:
        return nullcontext()
    # Not forked: a copy of a process in which torch has started threads may wait for them for ever.
    return ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn"), initializer=_begin_worker)


def _begin_worker() -> None:
    """Keep to one core, and leave an interrupt to the process that gives the work."""
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _ahead(
    pool: ProcessPoolExecutor | None, function: Callable[..., Result], arguments: Iterable[tuple[Any, ...]]
) -> Iterator[Result]:
    """Results in order, a bounded number of them made ahead by the workers."""
    if pool is None:
        yield from itertools.starmap(function, arguments)
        return
    under_way: deque[Future[Result]] = deque()
    for given in arguments:
        under_way.append(pool.submit(function, *given))
        if len(under_way) > _AHEAD:
            yield under_way.popleft().result()
    while under_way:
        yield under_way.popleft().result()


def _batched(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    source = iter(items)
    while batch := list(itertools.islice(source, size)):
        yield batch
