"""Go back to an older release of all models together, or forward again; nothing is exported and nothing removed.

Examples:
  avedge rollback                  the newest release is withdrawn, the one before it is out again
  avedge rollback --to 14          release 14 is the newest; those after it are withdrawn
  avedge rollback --undo           the withdrawn newest release is out again

A running server keeps what it has loaded: restart it. What an export or rollback killed midway has left is finished
first, so `--to` with the number that is out already only repairs.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from export import releases
from export.errors import ExportError
from export.releases import Releases


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `avedge rollback`."""
    parser.add_argument("--repository", type=Path, default=Path("model_repository"), help="Triton model repository")
    choice = parser.add_mutually_exclusive_group()
    choice.add_argument(
        "--to", type=int, metavar="N", help="release that is to be the newest; the one before when left"
    )
    choice.add_argument("--undo", action="store_true", help="bring the newest withdrawn release back")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(arguments: argparse.Namespace) -> int:
    """Carry out `avedge rollback`; raises ExportError, and has then changed nothing."""
    if not arguments.repository.is_dir():
        raise ExportError(f"There is no folder {arguments.repository}; name the repository with --repository.")
    done = roll_back(arguments.repository, to=arguments.to, undo=arguments.undo)
    report = {"version": done.newest, "released": sorted(done.released), "withdrawn": sorted(done.withdrawn)}
    line = json.dumps(report) if arguments.json else _sentence(done, arguments.repository)
    sys.stdout.write(line + "\n")
    return 0


def roll_back(repository: Path, to: int | None = None, *, undo: bool = False) -> Releases:
    """Make a kept release the one that servers load.

    Args:
        repository: the model repository.
        to: its number; the newest older one when None.
        undo: bring the newest withdrawn release back instead.

    Returns:
        What is out afterwards.

    Raises:
        ExportError: there is no such release, one of its versions is damaged, or it belongs to another contract than
            the configs; nothing has changed then.
    """
    with releases.locked(repository):
        before = releases.read(repository)
        releases.settle(repository, before)
        number = _chosen(before, to, undo=undo)
        for name in (before.released | before.withdrawn)[number]:
            _require_servable(repository / name, number, withdrawn=number in before.withdrawn)
        after = before.moved_to(number)
        releases.write(repository, after)
        releases.settle(repository, after)
    return after


def _chosen(before: Releases, to: int | None, *, undo: bool) -> int:
    """The release to go to."""
    everything = {*before.released, *before.withdrawn}
    if undo:
        wanted = max(before.withdrawn, default=0)
        if wanted <= before.newest:
            listed = f" Older ones come back by their number: --to {wanted}." if wanted else ""
            raise ExportError(f"No release newer than {before.newest} is withdrawn; nothing to undo.{listed}")
        return wanted
    older = [number for number in before.released if number < before.newest]
    wanted = max(older, default=0) if to is None else to
    if wanted not in everything:
        seen = "no older release" if to is None else f"no release {to}"
        out, back = (", ".join(map(str, sorted(part))) or "none" for part in (before.released, before.withdrawn))
        raise ExportError(
            f"There is {seen} here; out are {out}, withdrawn {back}. Wanted one of these, because only what was "
            "proven and kept can be served. Name one with --to, or export again: avedge export."
        )
    return wanted


def _require_servable(model_folder: Path, number: int, *, withdrawn: bool) -> None:
    """Refuse a version that is damaged, or whose tensors the configs no longer describe."""
    folder = releases.hidden(model_folder, number) if withdrawn else model_folder / str(number)
    if fault := releases.damage(folder):
        raise ExportError(f"{fault}; wanted release {number} as it was exported. Choose another with --to.")
    manifest: dict[str, Any] = json.loads((folder / releases.MANIFEST).read_text(encoding="utf-8"))
    wanted, seen = _contract_of_config(model_folder), manifest.get("contract_digest")
    if wanted is not None and seen != wanted:
        raise ExportError(
            f"{folder} was exported for contract {seen}, the configs beside it are of {wanted}; wanted the same, "
            "because the tensors may differ in shape or meaning. Write that contract's configs first: check out commit "
            f"{manifest.get('git_commit', 'unknown')} and run avedge export --configs-only."
        )


def _contract_of_config(model_folder: Path) -> str | None:
    """Fingerprint in the model's config; None where there is no config."""
    from google.protobuf import text_format
    from tritonclient.grpc import model_config_pb2

    path = model_folder / "config.pbtxt"
    if not path.is_file():
        return None
    try:
        config = text_format.Parse(path.read_text(encoding="utf-8"), model_config_pb2.ModelConfig())
    except (UnicodeDecodeError, text_format.ParseError) as error:
        raise ExportError(
            f"{path} cannot be read ({error}); wanted a Triton model config, whose contract the release must have. "
            "Make the configs again: avedge export --configs-only."
        ) from error
    parameter = config.parameters.get("contract_digest")
    return str(parameter.string_value) if parameter else None


def _sentence(done: Releases, repository: Path) -> str:
    models = len(done.released[done.newest])
    back = max(done.withdrawn, default=0)
    again = f"; {back} is withdrawn (back with: avedge rollback --to {back})" if back > done.newest else ""
    return f"release {done.newest} of {models} models is out in {repository}{again}. Restart its servers."
