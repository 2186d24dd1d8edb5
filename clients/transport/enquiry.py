"""What an endpoint says of a model, and what is wrong with it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from clients.contract import ServedModel, TensorSpec
from clients.errors import ClientError, ContractMismatch, ServerUnavailable, printable
from clients.transport.failures import CallFailed


@dataclass(frozen=True)
class Enquiry:
    """An endpoint's answers to: do you live, is the model ready, what is it like?"""

    live: bool
    described: ServedModel | None = None  # where the model is ready
    states: Mapping[str, str] = field(default_factory=dict)  # where it is not: every model's state, with the reason

    def model_at(self, url: str, model: str) -> ServedModel:
        """The model as it is described.

        Raises:
            CallFailed: with a refusal: it is not ready, or not there.
        """
        if self.described is None:
            raise CallFailed("UNFIT", "", self._refusal(url, model))
        return self.described

    def _refusal(self, url: str, model: str) -> ClientError:
        if not self.live:
            return _not_ready(url, "it says that it is not live")
        if model not in self.states:
            return ContractMismatch(
                f"The server at {url} does not serve {model}; it serves {', '.join(sorted(self.states)) or 'nothing'}",
                f"the model {model}",
                "these clients call it",
                "serve this project's model repository (`avedge serve`), or check --url",
            )
        unready = "; ".join(f"{name}: {state}" for name, state in sorted(self.states.items()) if state != "READY")
        return _not_ready(url, f"model {model} cannot be called ({printable(unready) or 'it is being loaded'})")


def specs_of(tensors: Iterable[tuple[str, str, Iterable[Any]]], *, batched: bool) -> tuple[TensorSpec, ...]:
    """Tensors by their names, datatypes and shapes, from which the batch axis is taken."""
    return tuple(
        TensorSpec(name, datatype, tuple(int(side) for side in shape)[1 if batched else 0 :])
        for name, datatype, shape in tensors
    )


def state_of(state: str, reason: str) -> str:
    """A model's state in the words of its repository."""
    return f"{state or 'not loaded'} {reason}".strip()


def _not_ready(url: str, seen: str) -> ServerUnavailable:
    return ServerUnavailable(
        f"The server at {url} is not ready: {seen}",
        "every model ready",
        "it cannot answer yet",
        "wait until it has loaded, or look at its log",
    )
