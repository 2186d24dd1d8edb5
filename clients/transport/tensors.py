"""What a request carries and what an answer must be."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clients.errors import ContractMismatch

Tensors = Mapping[str, NDArray[Any]]
Answer = dict[str, NDArray[Any]]


def batch_of_one(value: NDArray[Any]) -> NDArray[Any]:
    """A tensor of one item, as models take it, in one piece of memory."""
    return np.ascontiguousarray(value[None])  # (...) -> (1, ...)


def only_item(model: str, name: str, batch: NDArray[Any] | None) -> NDArray[Any]:
    """An answer's tensor without the batch axis.

    Raises:
        ContractMismatch: it is absent, is not one item, or has values that are no numbers.
    """
    if batch is None or batch.size == 0 or batch.ndim == 0 or len(batch) != 1:
        shape = "absent" if batch is None else f"of shape {batch.shape}"
        raise wrong_answer(f"Output {name} of model {model} is {shape}", "one item")
    if batch.dtype.kind not in "fiub" or not np.isfinite(batch).all():
        raise wrong_answer(f"Output {name} of model {model} holds values that are no numbers", "finite values")
    item: NDArray[Any] = batch[0].copy()  # (1, ...) -> (...); the original is a view of the message
    return item


def wrong_answer(seen: str, wanted: str) -> ContractMismatch:
    """The refusal of an answer."""
    return ContractMismatch(seen, wanted, "it cannot be used", "look at the server's log, and export the models again")
