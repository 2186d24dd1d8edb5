"""Training batches as pure functions of the step, so that a resumed run, or one of several processes, gets the same."""

from __future__ import annotations

import itertools
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from torch.utils.data import DataLoader, Dataset, Sampler

from train.errors import TrainError

Batch = TypeVar("Batch")
BatchOut = TypeVar("BatchOut", covariant=True)
AHEAD = 4  # batches that each worker makes ahead


class Batches(Protocol[BatchOut]):
    """What a training is fed with: any step's batch, or a share of it, made from nothing but the numbers given."""

    def batch(self, step: int, part: int, parts: int) -> BatchOut:
        """Share `part` of `parts` of the batch of optimiser step `step`, counted from 0.

        The shares of one step, joined, are the same items whatever `parts` is; the same arguments always give the same
        values, bit for bit, in whatever order and process they are asked for.
        """


def share(count: int, part: int, parts: int) -> range:
    """Which of `count` items the share `part` of `parts` has: neighbouring ones, equally many in every share.

    Raises:
        TrainError: the items cannot be shared equally; the mean of the shares' means would then not be the whole's.
    """
    if count % parts:
        raise TrainError(
            f"Saw a batch of {count} items for {parts} shares; wanted a multiple of {parts}, because only equal shares "
            "give the gradient of the whole batch. Change the batch's size, the processes or fit.accumulate_batches."
        )
    each = count // parts
    return range(part * each, (part + 1) * each)


@dataclass(frozen=True)
class Share(Dataset[Batch | TrainError], Generic[Batch]):
    """One process's batches as a map-style data set; index `step * micro + k` is the k-th micro-batch of a step."""

    batches: Batches[Batch]
    process: int
    processes: int
    micro: int  # batches whose gradients are added up before a step

    def __getitem__(self, index: int) -> Batch | TrainError:
        """The micro-batch of that number; or why there is none, since a worker that raised would add its traceback."""
        step, k = divmod(index, self.micro)
        try:
            return self.batches.batch(step, self.process * self.micro + k, self.processes * self.micro)
        except TrainError as refusal:
            return refusal


class CountingUp(Sampler[int]):
    """The numbers from `first` on, without end: Lightning would take an end for an epoch's, and resume differently."""

    def __init__(self, first: int) -> None:
        self.first = first

    def __iter__(self) -> Iterator[int]:
        """Count."""
        return itertools.count(self.first)


class TimedLoader(DataLoader[Batch | TrainError], Generic[Batch]):
    """A loader that knows how long it was waited for."""

    waited_s = 0.0

    def __iter__(self) -> Any:
        """Begin anew.

        Raises:
            TrainError: a batch that cannot be made.
        """
        batches = super().__iter__()
        while True:
            asked_s = time.perf_counter()
            try:
                batch = next(batches)
            except StopIteration:
                return
            finally:
                self.waited_s += time.perf_counter() - asked_s
            if isinstance(batch, TrainError):
                del batches  # ends the workers; they ignore signals, and the process would wait for them for ever
                raise batch
            yield batch


def _prepare_worker(worker: int) -> None:
    """Keep a worker to one core, and leave signals to the training, which ends its workers itself."""
    import cv2

    cv2.setNumThreads(0)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


def loader(shares: Share[Batch], first_step: int, workers: int, *, pin_memory: bool = False) -> TimedLoader[Batch]:
    """The batches from step `first_step` on, made ahead by `workers` processes, or on demand where there are none."""
    return TimedLoader(
        shares,
        batch_size=None,
        sampler=CountingUp(first_step * shares.micro),
        num_workers=workers,
        prefetch_factor=AHEAD if workers else None,
        worker_init_fn=_prepare_worker if workers else None,
        pin_memory=pin_memory,
    )
