"""Ends of what asyncio clients have begun: nothing goes on behind the back of who has given it up."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar

Result = TypeVar("Result")


async def end_all(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Cancel tasks and wait until they have ended, whatever came of them."""
    ended = list(tasks)
    for task in ended:
        task.cancel()
    await asyncio.gather(*ended, return_exceptions=True)


async def in_thread(call: Callable[..., Result], *arguments: Any) -> Result:
    """What `asyncio.to_thread` does, for work on files.

    Nothing can stop a thread. Where its task is cancelled, the cancellation goes on when the thread has ended; else
    files would be closed, and folders removed, that it still works on. What the caller's own code may hold up without
    end, such as the next block of a microphone, belongs into `asyncio.to_thread`.
    """
    work = asyncio.get_running_loop().run_in_executor(None, partial(call, *arguments))
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        while not work.done():
            with suppress(asyncio.CancelledError):  # once more; the first is on its way
                await asyncio.wait([work])
        with suppress(Exception):
            work.result()  # whatever came of it, nobody waits for it any more
        raise
