"""Training batches as pure functions of the step, so that a resumed run, or one of several processes, gets the same."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from torch.utils.data import DataLoader, Dataset, Sampler

from train.errors import TrainError

Batch = TypeVar("Batch")
BatchOut = TypeVar("BatchOut", covariant=True)


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
class Share(Dataset[Batch], Generic[Batch]):
    """One process's batches as a map-style data set; index `step * micro + k` is the k-th micro-batch of a step."""

    batches: Batches[Batch]
    process: int
    processes: int
    micro: int  # batches whose gradients are added up before a step

    def __getitem__(self, index: int) -> Batch:
        """The micro-batch of that number."""
        step, k = divmod(index, self.micro)
        return self.batches.batch(step, self.process * self.micro + k, self.processes * self.micro)


class Counting(Sampler[int]):
    """The numbers from `first` up to `stop`; of no stated length, since Lightning would take that for an epoch's."""

    def __init__(self, first: int, stop: int) -> None:
        self.numbers = range(first, stop)

    def __iter__(self) -> Iterator[int]:
        """Count."""
        return iter(self.numbers)


def one_thread(worker: int) -> None:
    """Keep a loader's worker to one core: there are as many workers as somebody wanted."""
    import cv2

    cv2.setNumThreads(0)


def loader(shares: Share[Batch], first_step: int, steps: int, workers: int) -> DataLoader[Batch]:
    """The batches of the steps from `first_step` on, made ahead by `workers` processes, or on demand by none."""
    return DataLoader(
        shares,
        batch_size=None,
        sampler=Counting(first_step * shares.micro, steps * shares.micro),
        num_workers=workers,
        prefetch_factor=4 if workers else None,
        worker_init_fn=one_thread if workers else None,
    )
