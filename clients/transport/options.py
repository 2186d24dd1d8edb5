"""What a connection is made by."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from clients.errors import BadSetting
from clients.transport.address import Address, addresses_of
from clients.transport.fleet import Endpoint, Fleet, Wire
from clients.transport.shared_regions import SharedMemory
from clients.transport.tls import Tls

DEFAULT_TIMEOUT_S = 60.0
IN_FLIGHT = 4
SHARED_MEMORY: SharedMemory = "auto"  # of the clients: pictures of two megabytes go faster that way


def open_fleet(
    url: str | Sequence[str],
    *,
    timeout_s: float,
    tls: Tls | None,
    shared_memory: SharedMemory,
    open_wire: Callable[[Address], Wire],
) -> Fleet[Wire]:
    """The endpoints of a connection, each with what carries its calls; nothing is sent yet.

    Raises:
        BadSetting: no connection can be made by these.
    """
    if not 0 < timeout_s < math.inf:
        raise BadSetting(
            f"timeout_s is {timeout_s}", "more than 0 seconds", "every call has a deadline", "give another --timeout"
        )
    addresses = addresses_of(url, secure=tls is not None)
    if shared_memory not in (True, False, "auto"):
        raise BadSetting(
            f"shared_memory is {shared_memory!r}", 'True, False or "auto"', "nothing else is known", "give one of them"
        )
    for address in addresses:
        if shared_memory is True and (address.http or not address.is_loopback):
            raise BadSetting(
                f"Shared memory was asked for, and {address} is {'HTTP' if address.http else 'another machine'}",
                "gRPC to this machine (127.0.0.1 or localhost)",
                "only programs of one machine can share memory",
                'leave shared_memory out, or give "auto"',
            )
    return Fleet([Endpoint(str(address), open_wire(address)) for address in addresses], timeout_s)


def require_in_flight(in_flight: int) -> None:
    """Refuse to send nothing.

    Raises:
        BadSetting: in_flight is below 1.
    """
    if in_flight < 1:
        raise BadSetting(f"in_flight is {in_flight}", "1 or more", "no request would be sent", "give 1 or more")
