"""The builder's decisions on TensorRT 10.3 and 11.4, whose interfaces differ.

Both need a GPU to build anything, so here their builders are imitated: the enums have the very names and numbers of the
bindings tensorrt-cu12-bindings 10.3.0 and tensorrt-cu13-bindings 11.4.0.106, the rest only remembers what it was asked.
"""

import enum
from types import SimpleNamespace
from typing import Any

import pytest

from export.contract import model_named
from export.engines.builder import Construction, Log, Options
from export.errors import ExportError

STFT, CROWD = model_named("facefilter_stft"), model_named("crowd_v")
FLAGS_10 = {"FP16": 0, "INT8": 1, "TF32": 6, "VERSION_COMPATIBLE": 13}
FLAGS_11 = {"TF32": 6, "VERSION_COMPATIBLE": 12}
NETWORKS_10 = {"EXPLICIT_BATCH": 0, "STRONGLY_TYPED": 1}
NETWORKS_11 = {"STRONGLY_TYPED": 0}


class Network:
    def __init__(self, flags: int, *, deaf: bool) -> None:
        self.flags = 0 if deaf else flags

    def get_flag(self, flag: enum.IntEnum) -> bool:
        return bool(self.flags >> int(flag) & 1)


class Config:
    """TF32 is on at first, as in both releases."""

    def __init__(self, tf32: enum.IntEnum, *, stubborn: bool) -> None:
        self.set, self.stubborn = {tf32}, stubborn
        self.profiling_verbosity: Any = None

    def get_flag(self, flag: enum.IntEnum) -> bool:
        return flag in self.set

    def set_flag(self, flag: enum.IntEnum) -> None:
        self.set.add(flag)

    def clear_flag(self, flag: enum.IntEnum) -> None:
        if not self.stubborn:
            self.set.discard(flag)


def tensorrt(version: str, *, deaf: bool = False, stubborn: bool = False, without: str = "") -> Any:
    """An imitation; `deaf` makes weakly typed networks whatever it is asked, `stubborn` clears no flag."""
    older = version.startswith("10.")
    networks = {name: n for name, n in (NETWORKS_10 if older else NETWORKS_11).items() if name != without}
    flags: Any = enum.IntEnum("BuilderFlag", FLAGS_10 if older else FLAGS_11)

    class Logger:
        pass

    class Builder:
        def __init__(self, _sink: Any) -> None:
            pass

        def create_network(self, flags: int) -> Network:
            return Network(flags, deaf=deaf)

        def create_builder_config(self) -> Config:
            return Config(flags.TF32, stubborn=stubborn)

    return SimpleNamespace(
        __name__="tensorrt",
        __version__=version,
        ILogger=Logger,
        Builder=Builder,
        BuilderFlag=flags,
        NetworkDefinitionCreationFlag=enum.IntEnum("NetworkDefinitionCreationFlag", networks),
        ProfilingVerbosity=enum.IntEnum("ProfilingVerbosity", {"LAYER_NAMES_ONLY": 0, "NONE": 1, "DETAILED": 2}),
    )


def construct(trt: Any, model: Any = STFT, **options: Any) -> Construction:
    return Construction(trt, Log(trt), model, Options(**options))


@pytest.mark.parametrize(("version", "bits"), [("10.3.0", 0b10), ("11.4.0.106", 0b01)])
def test_each_release_is_asked_for_strong_types_by_its_own_number(version: str, bits: int) -> None:
    assert construct(tensorrt(version)).network.flags == bits


@pytest.mark.parametrize("version", ["10.3.0", "11.4.0.106"])
def test_no_release_is_asked_for_a_precision_and_tf32_is_cleared(version: str) -> None:
    made = construct(tensorrt(version), CROWD)
    assert made.flags == ("STRONGLY_TYPED",) and not made._config.set
    assert made._config.profiling_verbosity.name == "DETAILED"


@pytest.mark.parametrize("version", ["10.3.0", "11.4.0.106"])
def test_what_is_asked_for_is_set_but_tf32_never_for_signal_processing(version: str) -> None:
    wanted = {"tf32": True, "version_compatible": True}
    assert construct(tensorrt(version), CROWD, **wanted).flags == ("STRONGLY_TYPED", "TF32", "VERSION_COMPATIBLE")
    assert construct(tensorrt(version), STFT, **wanted).flags == ("STRONGLY_TYPED", "VERSION_COMPATIBLE")


def test_a_release_that_keeps_tf32_is_refused() -> None:
    with pytest.raises(ExportError, match="10.3.0 does not let TF32 be cleared"):
        construct(tensorrt("10.3.0", stubborn=True))


def test_a_release_that_would_choose_precisions_by_itself_is_refused() -> None:
    with pytest.raises(ExportError, match="10.3.0 made a weakly typed network"):
        construct(tensorrt("10.3.0", deaf=True))
    construct(tensorrt("11.4.0.106", deaf=True))  # 11 knows no other networks, and says nothing of it


def test_a_release_without_the_flag_is_refused_by_name() -> None:
    with pytest.raises(ExportError, match="no NetworkDefinitionCreationFlag.STRONGLY_TYPED, only EXPLICIT_BATCH"):
        construct(tensorrt("10.3.0", without="STRONGLY_TYPED"))
