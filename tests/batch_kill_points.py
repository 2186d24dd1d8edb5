"""Runs a batch of toy work again and again, each time killed one step later; a program of its own.

    python batch_kill_points.py FOLDER

After each kill every file that can be seen must be whole, and the next run must make just what is not there. Prints how
many steps there were.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import sys
from pathlib import Path

from kill_points import die_at
from toy_verb import LENGTH, UPPER, add_arguments, run

TEXTS = {"a": "one", "b": "twotwo"}


def batch(folder: Path) -> list[dict[str, object]]:
    """One run in this process; what it says of each input."""
    import argparse

    parser = argparse.ArgumentParser()
    add_arguments(parser)
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        code = run(parser.parse_args([str(folder / "in"), "-o", str(folder / "out"), "--json"]))
    if code:
        sys.exit(f"{folder}: the run gave {code}: {said.getvalue()}")
    return [json.loads(line) for line in said.getvalue().splitlines()]


def wanted() -> dict[str, str]:
    """Every file that a whole run leaves."""
    return {
        name + ending: content
        for name, text in TEXTS.items()
        for ending, content in ((UPPER, text.upper()), (LENGTH, str(len(text))))
    }


def seen(folder: Path) -> dict[str, str]:
    """Every file of the results that can be seen."""
    out = folder / "out"
    return {path.name: path.read_text() for path in out.glob("*") if path.is_file()} if out.is_dir() else {}


def killed_at(folder: Path, step: int) -> bool:
    """Whether a run dies at that step, rather than coming to its end."""
    child = os.fork()
    if not child:
        die_at(step)
        batch(folder)
        sys.setprofile(None)
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    if os.WIFEXITED(status) and os.WEXITSTATUS(status):
        sys.exit(f"step {step}: the run failed by itself")
    return not os.WIFEXITED(status)


def check(folder: Path, step: int) -> None:
    """What the kill left, and what the next run makes of it."""
    left = seen(folder)
    if not left.items() <= wanted().items():
        sys.exit(f"step {step}: {left} is there")
    whole = {name for name in TEXTS if {name + UPPER, name + LENGTH} <= left.keys()}
    skipped = {Path(str(one["input"])).stem for one in batch(folder) if one["status"] == "skipped"}
    if skipped != whole:
        sys.exit(f"step {step}: {whole} were whole and {skipped} were skipped")
    hidden = {path.name for path in (folder / "out").glob(".*")}
    if seen(folder) != wanted() or hidden != {".avedge"}:
        sys.exit(f"step {step}: the next run left {seen(folder)} and {hidden}")


def main(base: Path) -> int:
    """Kill at every step."""
    step = 1
    while True:
        folder = base / str(step)
        (folder / "in").mkdir(parents=True)
        for name, text in TEXTS.items():
            (folder / "in" / f"{name}.txt").write_text(text)
        died = killed_at(folder, step)
        check(folder, step)
        shutil.rmtree(folder)
        if not died:
            sys.stdout.write(f"{step - 1}\n")
            return 0
        step += 1


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
