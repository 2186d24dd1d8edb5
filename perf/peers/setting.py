"""How one peer is run; its processes read it from their environment, so that workers that a framework starts see it."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass

VARIABLE = "AVEDGE_PEER"


@dataclass(frozen=True)
class Setting:
    """What can be tuned; a peer that has no such knob leaves it as it is."""

    workers: int = 1  # processes; of PyTriton: inference callables, which are threads of one process
    threads: int = 1  # of torch in each worker
    batch: int = 1  # the most requests that are computed together
    delay_ms: float = 0.0  # how long a batch waits for more
    channels_last: bool = False  # torch's memory format, which some CPU convolutions like
    slots: int = 1  # FastAPI: requests that one worker computes at the same time

    def words(self) -> str:
        """The setting as a table shows it."""
        parts = [f"{self.workers} worker{'s' * (self.workers > 1)} x {self.threads} thread{'s' * (self.threads > 1)}"]
        if self.slots > 1:
            parts.append(f"{self.slots} at once")
        if self.batch > 1:
            parts.append(f"batches of {self.batch} within {self.delay_ms:g} ms")
        if self.channels_last:
            parts.append("channels last")
        return ", ".join(parts)


@dataclass(frozen=True)
class Assignment:
    """What one peer's processes are to do."""

    workload: str
    port: int  # HTTP, on loopback
    grpc_port: int  # for what speaks it
    weights: str  # folder of the .safetensors
    scratch: str  # folder of this server alone; it also marks its processes
    setting: Setting

    def environment(self) -> dict[str, str]:
        """This process's environment with the assignment, and the threads for every library that counts its own."""
        return os.environ | {VARIABLE: json.dumps(asdict(self)), "OMP_NUM_THREADS": str(self.setting.threads)}

    @classmethod
    def from_environment(cls) -> Assignment:
        """The assignment of the process that asks."""
        content = json.loads(os.environ[VARIABLE])
        return cls(**content | {"setting": Setting(**content["setting"])})
