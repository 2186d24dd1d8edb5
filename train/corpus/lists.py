"""Write the fixed lists of mixtures of a corpus: for testing, for validation, and two million for training if wanted.

Rows are drawn and written one by one, so that a list of any length needs no memory.
"""

from __future__ import annotations

import itertools
import logging
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from train.corpus.drawer import Drawer
from train.corpus.layout import splits_of
from train.corpus.mixtures import Mixture, write_list
from train.errors import TrainError

log = logging.getLogger(__name__)

SPLIT_OF_SUBSET = {"seen-heard": "seen", "unseen-unheard": "test"}


def write_lists(
    root: Path, sizes: dict[str, int], *, seed: int = 0, sir_range_db: float = 0.0
) -> dict[str, dict[str, int | float]]:
    """Write `<root>/mixtures/{test,val,train}.csv`; pieces of the first two are read and hold speech.

    Args:
        root: the corpus.
        sizes: of `test` for each pair and subset, of `val` and `train` altogether; none is written for zero.
        seed: same seed, same lists.
        sir_range_db: levels of target over interferer are drawn from plus and minus so much.

    Returns:
        for each list its rows, the seconds it took, and what was counted while drawing.

    Raises:
        TrainError: there is no corpus, or nothing to mix in it.
    """
    present = splits_of(root)
    report: dict[str, dict[str, int | float]] = {}
    for name, size in sizes.items():
        wanted = {} if size < 1 else SPLIT_OF_SUBSET if name == "test" else {"": name}
        missing = [split for split in wanted.values() if split not in present]
        if missing:
            log.warning("%s has no clips of split %s; %s.csv goes without", root, " and ".join(missing), name)
        drawers = [
            Drawer(root, split, seed, subset, sir_range_db, check=name != "train")
            for subset, split in wanted.items()
            if split in present
        ]
        if drawers:
            counts = [size * len(drawer.pairs) if name == "test" else size for drawer in drawers]
            report[name] = _write(root / "mixtures" / f"{name}.csv", drawers, counts)
    if not report:
        raise TrainError(
            f"No list was written: {root} has clips of {', '.join(present)}, and the sizes asked for are {sizes}. "
            "Ask for more than zero of a split that is there."
        )
    return report


def _write(path: Path, drawers: list[Drawer], counts: list[int]) -> dict[str, int | float]:
    started_s = time.monotonic()
    drawn = (drawer.rows(count) for drawer, count in zip(drawers, counts, strict=True))
    rows = write_list(path, _told(itertools.chain.from_iterable(drawn), path))
    seconds = time.monotonic() - started_s
    tally: Counter[str] = sum((drawer.tally for drawer in drawers), Counter())
    log.info("%s: %d rows in %.1f s (%.0f rows/s)", path, rows, seconds, rows / seconds)
    for what, count in tally.items():
        log.info("%s: %d times: %s", path.name, count, what)
    return {"rows": rows, "seconds": round(seconds, 2), **tally}


def _told(rows: Iterable[Mixture], path: Path) -> Iterator[Mixture]:
    for number, row in enumerate(rows, start=1):
        if number % 100_000 == 0:
            log.info("%s: %d rows", path.name, number)
        yield row
