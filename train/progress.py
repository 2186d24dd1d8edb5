"""Long work told now and then in the log."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

log = logging.getLogger(__name__)
_TOLD_EVERY_S = 15.0
Item = TypeVar("Item")


def told(items: Iterable[Item], total: int, noun: str) -> Iterator[Item]:
    """Say now and then how far it is; the pace is that since the first item, before which workers may start."""
    first = last = 0.0
    for done, item in enumerate(items, start=1):
        now = time.monotonic()
        if done == 1:
            first = last = now
        elif now - last > _TOLD_EVERY_S:
            last, rate = now, (done - 1) / (now - first)
            log.info("%d of %d %s, %.1f a second, %.0f s to go", done, total, noun, rate, (total - done) / rate)
        yield item
