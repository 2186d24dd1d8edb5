"""Memory that this program and a server on the same machine both see, so that tensors do not go through a socket.

A request borrows a region, writes its tensors there and sends only their places. A region goes from one request to the
next, and never belongs to two: one whose request had no answer is put aside, because the server may still read it.
Its name is taken out of /dev/shm as soon as the server has opened it, so nothing stays there even of a program that is
killed; the server itself is told to forget regions of programs that were. Answers are small and come by gRPC.

Triton before 2.50 crashes if a region is forgotten while a request reads it; use it with newer ones.
"""

from __future__ import annotations

import logging
import threading
import time
import weakref
from collections.abc import Mapping
from contextlib import suppress
from types import TracebackType
from typing import Any, Literal

import tritonclient.grpc as triton
from numpy.typing import NDArray
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

from clients.errors import BadSetting, printable
from clients.transport.address import Address
from clients.transport.deadline import left_s
from clients.transport.failures import CallFailed
from clients.transport.region import Region, is_left_behind, unlink_left_behind
from clients.transport.tensors import Tensors, batch_of_one

# True: tensors go to the server through shared memory, or there is no connection; "auto": where the server is on this
# machine and takes part, else by gRPC; False: never.
SharedMemory = bool | Literal["auto"]

_UNKNOWN_REGION = "Unable to find shared memory region"  # Triton's words after it was started anew
_MAX_ASIDE = 16  # regions of requests without an answer; beyond them, tensors go by gRPC
_UNREGISTER_TIMEOUT_S, _IN_USE_POLL_S = 1.0, 0.02
_log = logging.getLogger(__name__)


class SharedRegions:
    """The regions that requests to one server borrow; may be used by several threads.

    Args:
        client: tritonclient's, for telling the server of regions.
        required: fail where the server does not take part, instead of sending tensors by gRPC.
    """

    def __init__(self, client: Any, *, required: bool) -> None:
        self._client, self._required = client, required
        self._lock = threading.Lock()
        self._idle: list[Region] = []
        self._all: list[Region] = []  # everything that the server may know
        self._aside = 0
        self._is_off = False
        self._is_clear = False
        self.close = weakref.finalize(self, _forget, client, self._all)  # at the interpreter's end, too

    def register(self, region: Region, deadline: float) -> bool:
        """Show a new region to the server until then, by `time.monotonic()`; False where it does not take part.

        Raises:
            CallFailed: nothing answers; or with a refusal, where shared memory is required.
        """
        try:
            self._clear_up(deadline)
            region.register(self._client, left_s(deadline))
        except InferenceServerException as error:
            failure = CallFailed.of(error)
            if failure.status == "DEADLINE_EXCEEDED":  # the server may come to it yet
                self._all.append(region)
            if failure.may_retry or failure.status == "DEADLINE_EXCEEDED":
                raise failure from error
            self._turn_off(failure.text)
            return False
        self._all.append(region)
        return True

    def give_back(self, region: Region, *, is_free: bool) -> None:
        """After the request: to the next one, or aside if the server may still read it."""
        with self._lock:
            if not region.is_registered:
                region.close()
            elif is_free:
                self._idle.append(region)
            else:
                self._aside += 1

    def forget_all(self) -> None:
        """The server was started anew and knows none of them."""
        with self._lock:
            for region in self._idle:
                region.close()
            self._idle.clear()
            self._all.clear()
            self._aside = 0

    def take(self, size: int) -> Region | None:
        """The smallest idle region that is large enough, or a new one; requests come in few sizes."""
        with self._lock:
            if self._is_off or self._aside >= _MAX_ASIDE:
                return None
            fitting = [region for region in self._idle if region.size >= size]
            if fitting:
                region = min(fitting, key=lambda one: one.size)
                self._idle.remove(region)
                return region
        try:
            return Region(size)
        except OSError as error:
            self._turn_off(str(error))
            return None

    def _clear_up(self, deadline: float) -> None:
        """Once: make the machine and the server forget regions of clients that were killed."""
        with self._lock:
            if self._is_clear:
                return
            self._is_clear = True
        unlink_left_behind()
        known = self._client.get_system_shared_memory_status(client_timeout=left_s(deadline)).regions
        for name in filter(is_left_behind, known):
            with suppress(InferenceServerException):  # "in use": the next client will find it
                self._client.unregister_system_shared_memory(name, client_timeout=left_s(deadline))

    def _turn_off(self, reason: str) -> None:
        self._is_off = True
        if self._required:
            refusal = BadSetting(
                f"Shared memory was asked for, and there is none: {reason}",
                "a server on this machine that takes part (--allow-client-shm from Triton 2.68 on)",
                "tensors would go by gRPC instead",
                'leave shared_memory out, or give "auto"',
            )
            raise CallFailed("UNFIT", reason, refusal)
        _log.debug("no shared memory, tensors go by gRPC: %s", printable(reason))


def regions_for(address: Address, shared_memory: SharedMemory, client: Any) -> SharedRegions | None:
    """The regions of one endpoint; None where tensors go by gRPC anyway."""
    if not shared_memory or not address.is_loopback:
        return None
    return SharedRegions(client, required=shared_memory is True)


def lend(regions: SharedRegions | None, inputs: Tensors) -> Loan:
    """A region for one request, for the time of a `with`."""
    batches = {name: batch_of_one(value) for name, value in inputs.items()}
    region = regions.take(sum(batch.nbytes for batch in batches.values())) if regions is not None else None
    return Loan(regions, batches, region)


class Loan:
    """A region in the hands of one request; without one, its tensors go by gRPC."""

    def __init__(
        self, regions: SharedRegions | None, batches: Mapping[str, NDArray[Any]], region: Region | None
    ) -> None:
        self._regions, self._batches, self._region = regions, batches, region

    @property
    def is_new(self) -> bool:
        """Whether the server has to be told of the region first."""
        return self._region is not None and not self._region.is_registered

    def register(self, deadline: float) -> None:
        """Tell the server of the region; if it does not take part, there is none afterwards."""
        if self._regions is None or self._region is None or self._regions.register(self._region, deadline):
            return
        self._region.close()
        self._region = None

    def inputs(self, deadline: float) -> list[Any]:
        """The request's tensors, as tritonclient takes them."""
        if self.is_new:
            self.register(deadline)
        described, offset = [], 0
        for name, batch in self._batches.items():
            tensor = triton.InferInput(name, list(batch.shape), np_to_triton_dtype(batch.dtype))
            if self._region is None:
                tensor.set_data_from_numpy(batch)
            else:
                self._region.write(batch, offset)
                tensor.set_shared_memory(self._region.name, batch.nbytes, offset)
                offset += batch.nbytes
            described.append(tensor)
        return described

    def __enter__(self) -> Loan:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._regions is None or self._region is None:
            return
        if isinstance(error, CallFailed) and _UNKNOWN_REGION in error.text:
            self._regions.forget_all()
            raise CallFailed("UNAVAILABLE", f"the server was started anew: {error.text}") from error
        # Whatever answer the server gave, it gave it after reading the request.
        is_free = error is None or (isinstance(error, CallFailed) and error.is_answer)
        self._regions.give_back(self._region, is_free=is_free)


def _forget(client: Any, regions: list[Region]) -> None:
    """Make the server forget regions, within a second for all of them, and give their memory back."""
    deadline = time.monotonic() + _UNREGISTER_TIMEOUT_S
    for region in regions:
        while time.monotonic() < deadline:
            try:
                client.unregister_system_shared_memory(region.name, client_timeout=left_s(deadline))
            except (InferenceServerException, ValueError) as error:  # ValueError: the channel is closed
                if "in use" in str(error):  # what was cancelled is being ended
                    time.sleep(_IN_USE_POLL_S)
                    continue
                _log.debug("shared memory stays with the server: %s", printable(str(error)))
            break
        with suppress(BufferError, ValueError):
            region.close()
    regions.clear()
