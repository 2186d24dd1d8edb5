"""What a client needs of a served model, and the check that the server gives it.

Nothing is hard-coded but names and the version: sizes, rates and lengths are read from the `parameters` of the served
config.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from clients.errors import ContractMismatch

CONTRACT_VERSION = 1
ANY_LENGTH = -1


@dataclass(frozen=True)
class TensorSpec:
    """One tensor of a request or an answer; the shape is that of one item, -1 for a length that changes."""

    name: str
    datatype: str  # KServe's word: FP32, UINT8
    shape: tuple[int, ...]

    def __str__(self) -> str:
        return f"{self.name} {self.datatype} {list(self.shape)}"


@dataclass(frozen=True)
class ServedModel:
    """A model as the server describes it, read once."""

    name: str
    versions: tuple[str, ...]
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    facts: Mapping[str, str]
    steps: tuple[str, ...] = ()  # of an ensemble: the models that it calls

    @property
    def digest(self) -> str:
        """Fingerprint of the contract that the served config was generated from; empty if it does not say."""
        return self.facts.get("contract_digest", "")

    def integer(self, fact: str) -> int:
        """A positive whole number among the facts."""
        return self.integers(fact)[0]

    def integers(self, fact: str) -> tuple[int, ...]:
        """Positive whole numbers, comma-separated.

        Raises:
            ContractMismatch: the fact is absent or says something else.
        """
        text = self.facts.get(fact)
        try:
            numbers = tuple(int(part) for part in (text or "").split(","))
        except ValueError:
            numbers = ()
        if not numbers or min(numbers) <= 0:
            raise self._mismatch(f"its parameter {fact} is {text!r}", "positive whole numbers")
        return numbers

    def number(self, fact: str) -> float:
        """A positive number.

        Raises:
            ContractMismatch: the fact is absent or says something else.
        """
        text = self.facts.get(fact)
        try:
            value = float(text or "")
        except ValueError:
            value = 0.0
        if not 0 < value < float("inf"):
            raise self._mismatch(f"its parameter {fact} is {text!r}", "a positive number")
        return value

    def numbers_if_any(self, *facts: str) -> tuple[float, ...] | None:
        """Numbers of 0 or more that a served config may leave out; None where it has none of them.

        Raises:
            ContractMismatch: some are there and others not, or one says something else.
        """
        texts = {fact: self.facts.get(fact) for fact in facts}
        if all(text is None for text in texts.values()):
            return None
        try:
            numbers = tuple(float(text or "") for text in texts.values())
        except ValueError:
            numbers = ()
        if not numbers or not all(0 <= number < float("inf") for number in numbers):
            seen = ", ".join(f"{fact} is {text!r}" for fact, text in texts.items())
            raise self._mismatch(f"of its parameters, {seen}", "numbers of 0 or more for all of them, or for none")
        return numbers

    def require_version(self) -> None:
        """Refuse another contract.

        Raises:
            ContractMismatch: the config names another version or none.
        """
        version = self.facts.get("contract_version")
        if version != str(CONTRACT_VERSION):
            raise self._mismatch(f"its contract_version is {version!r}", f"contract_version '{CONTRACT_VERSION}'")

    def require_tensors(self, inputs: tuple[TensorSpec, ...], outputs: tuple[TensorSpec, ...]) -> None:
        """Refuse a model that takes or gives other tensors; outputs that are not asked for may be there.

        Raises:
            ContractMismatch: says both sides.
        """
        lacking = [spec for spec in inputs if spec not in self.inputs] + [s for s in outputs if s not in self.outputs]
        if lacking or len(inputs) != len(self.inputs):
            raise self._mismatch(
                f"it takes {_listed(self.inputs)} and gives {_listed(self.outputs)}",
                f"that it takes {_listed(inputs)} and gives {_listed(outputs)}",
            )

    def _mismatch(self, seen: str, wanted: str) -> ContractMismatch:
        return ContractMismatch(
            f"The server's model {self.name} does not fit these clients: {seen}",
            wanted,
            "an answer would be wrong or refused",
            "serve the models exported by this version of avedge (`avedge export`, `avedge serve`), or check --url",
        )


def _listed(specs: tuple[TensorSpec, ...]) -> str:
    return ", ".join(map(str, specs)) or "nothing"
