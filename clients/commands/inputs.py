"""What a command reads: files, folders, patterns and standard input, each with its place among the results.

Below the output folder, a file is known by its name without the ending; a file found in a folder keeps its sub-folders:
`avedge count photos` makes out/monday/square.density.png of photos/monday/square.jpg. Files that would meet in one
place are told apart by the folders in which they differ, or by their endings.
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from clients.commands.resume import Identity
from clients.errors import BadInput, ClientError, printable

STDIN = Path("-")
MAX_FOUND = 100_000  # files below one folder or pattern
MAX_STDIN_BYTES = 8 << 30
_BLOCK_BYTES = 1 << 20
_WILD = "*?["


@dataclass(frozen=True)
class Kinds:
    """Which files of a folder a command takes; a file that is named is taken whatever its name is."""

    noun: str
    endings: frozenset[str]

    def __or__(self, other: Kinds) -> Kinds:
        return Kinds(f"{self.noun} or {other.noun}", self.endings | other.endings)


def _kinds(noun: str, endings: str) -> Kinds:
    return Kinds(noun, frozenset(f".{ending}" for ending in endings.split()))


RECORDINGS = _kinds("recording", "wav flac mp3 m4a aac ogg oga opus mp2 mpga wma mka weba")
VIDEOS = _kinds("video", "mp4 m4v mov mkv webm avi mpg mpeg ts mts m2ts flv wmv 3gp")
PHOTOS = _kinds("photo", "jpg jpeg png")
ANY_MEDIA = RECORDINGS | VIDEOS | PHOTOS


@dataclass(frozen=True)
class Input:
    """One thing to work on."""

    path: Path  # the file to read
    name: str  # as people gave it
    place: Path  # its results, below the output folder and without their endings: Path("monday/talk")
    problem: ClientError | None = None  # why there is nothing to read
    identity: Identity | None = None  # where it is known already

    @classmethod
    def of(cls, path: Path) -> Input:
        """A file that was named by itself."""
        return cls(path, str(path), Path(path.stem or path.name))


def find_inputs(words: Iterable[Path | Input], kinds: Kinds, *, results: Path, endings: Sequence[str]) -> list[Input]:
    """Every input that the words of a command line stand for, in their order; a folder's by their names.

    A word behind which there is nothing becomes an input with a `problem`, so that the others are done all the same.
    Standard input is not read yet, see `spool`.

    Args:
        words: files, folders, patterns such as "talks/**/*.wav", Path("-") for standard input; or inputs as they are.
        kinds: what is taken from folders, as their files' names say.
        results: folder whose files are results and no inputs.
        endings: of results, which are no inputs where they lie beside them.

    Raises:
        BadInput: two different inputs would give the same files.
    """
    found: list[Input] = []
    results, ours = _real(results), tuple(endings)
    for given in words:
        word = given.parent if isinstance(given, Path) and given.name == "**" else given  # all that is below
        if isinstance(word, Input):
            found.append(word)
        elif word == STDIN:
            found.append(Input(STDIN, "stdin", Path("stdin")))
        elif os.path.isdir(word):  # unlike Path's, False for what may not be looked at
            found += _in_folder(word, kinds, results, ours)
        elif any(sign in str(word) for sign in _WILD) and not os.path.lexists(word):
            found += _fitting(word, kinds, results, ours)
        else:
            found.append(Input.of(word))
    return _placed_apart(_once_each(found))


def spool(one: Input, folder: Path) -> Input:
    """Standard input as a file in a folder; other inputs as they are.

    Raises:
        BadInput: it is a terminal, empty, or has more than 8 GiB.
        OSError: it cannot be written down.
    """
    if one.path != STDIN:
        return one
    if sys.stdin is None or sys.stdin.isatty():
        raise BadInput(
            "Standard input is a terminal", "a file's bytes", "nobody types a recording", "use: cat FILE | avedge ... -"
        )
    path, digest, size = folder / "stdin", hashlib.sha256(), 0
    with path.open("wb") as file:
        # Not by sys.stdin, whose lock a thread that is left behind would keep from the interpreter's end.
        while block := os.read(sys.stdin.fileno(), _BLOCK_BYTES):
            size += len(block)
            if size > MAX_STDIN_BYTES:
                raise BadInput(
                    f"Standard input has more than {MAX_STDIN_BYTES:,} bytes",
                    "less",
                    "it would fill the disk",
                    "cut it",
                )
            digest.update(block)
            file.write(block)
    if not size:
        raise BadInput("Standard input is empty", "a file's bytes", "there is nothing to read", "check what writes it")
    return replace(one, path=path, identity=Identity(size, digest.hexdigest()))


def _in_folder(folder: Path, kinds: Kinds, results: Path, endings: tuple[str, ...]) -> list[Input]:
    """A folder's files of the kinds that are read, by name; and what could not be looked into."""
    found: list[Input] = []
    unread: list[Input] = []
    for file in _walk(folder, results, unread):
        if file.suffix.lower() in kinds.endings and not file.name.endswith(endings):
            found.append(_below(folder, file))
        if len(found) > MAX_FOUND:
            return [_too_many(folder)]
    if not found and not unread:
        unread.append(_nothing(folder, f"no {kinds.noun} in it or below, by the names of the files", kinds))
    return found + unread


def _walk(folder: Path, results: Path, unread: list[Input]) -> Iterator[Path]:
    """Files in a folder and below, by name; nothing hidden, no results, and no way through a link to a folder."""
    waiting = [(folder, True)]
    while waiting:
        path, is_folder = waiting.pop()
        if not is_folder:
            yield path
            continue
        try:
            with os.scandir(path) as entries:
                shown = [entry for entry in entries if not entry.name.startswith(".")]
        except OSError as error:
            unread.append(_nothing(path, f"not opened: {error.strerror}", None))
            continue
        # Unlike the entry's own question, False for a link that leads to itself or to where nobody may look.
        inside = [(path / entry.name, False) for entry in shown if os.path.isfile(entry)]
        folders = (path / entry.name for entry in shown if entry.is_dir(follow_symlinks=False))
        inside += [(one, True) for one in folders if _real(one) != results]
        waiting += sorted(inside, reverse=True)


def _fitting(pattern: Path, kinds: Kinds, results: Path, endings: tuple[str, ...]) -> list[Input]:
    """What fits a pattern: files as if they were named, and what lies in folders."""
    parts = pattern.parts
    fixed = next(number for number, part in enumerate(parts) if any(sign in part for sign in _WILD))
    base, wild = Path(*parts[:fixed]), parts[fixed:]
    if any("**" in part and part != "**" for part in wild):
        return [_nothing(pattern, "** stands beside other signs", None, "write **/ for all folders below")]
    shown = {part for part in wild if part.startswith(".")}  # hidden ones only where they are asked for
    results_below = not _real(base).is_relative_to(results)
    found: list[Input] = []
    for path in base.glob(str(Path(*wild))):
        hidden = any(part.startswith(".") for part in path.relative_to(base).parts)
        is_result = path.name.endswith(endings) or (results_below and _real(path).is_relative_to(results))
        if is_result or (hidden and not shown):
            continue
        if not os.path.isdir(path):
            found.append(_below(base, path))
        else:
            found += [replace(one, place=_place(base, one.path)) for one in _in_folder(path, kinds, results, endings)]
        if len(found) > MAX_FOUND:
            return [_too_many(pattern)]
    return sorted(found, key=lambda one: one.path) or [_nothing(pattern, "no file fits it", None)]


def _real(path: Path) -> Path:
    """Without links, as far as they lead somewhere."""
    return Path(os.path.realpath(path))


def _below(base: Path, file: Path) -> Input:
    return Input(file, str(file), _place(base, file))


def _place(base: Path, file: Path) -> Path:
    return file.relative_to(base).with_suffix("")


def _nothing(path: Path, seen: str, kinds: Kinds | None, remedy: str = "check the path") -> Input:
    wanted = f"a {kinds.noun}, named {', '.join(sorted(kinds.endings))}" if kinds else "something to read"
    problem = BadInput(f"{printable(path)}: {seen}", wanted, "there is nothing to work on", remedy)
    return Input(path, str(path), Path(path.name or "."), problem)


def _too_many(path: Path) -> Input:
    problem = BadInput(
        f"{printable(path)} stands for more than {MAX_FOUND:,} files", "fewer", "it is probably not meant", "name parts"
    )
    return Input(path, str(path), Path(path.name or "."), problem)


def _once_each(found: list[Input]) -> list[Input]:
    """A file that was named twice is one input."""
    seen: dict[str, Input] = {}
    for one in found:
        seen.setdefault(os.path.abspath(one.path) if one.problem is None else f"?{len(seen)}", one)
    return list(seen.values())


def _placed_apart(found: list[Input]) -> list[Input]:
    """Inputs that would meet in one place get one each: by the folders in which they differ, then by their endings."""
    for apart in (_by_folder, _by_ending):
        meeting: dict[Path, list[Input]] = defaultdict(list)
        for one in found:
            if one.problem is None:
                meeting[one.place].append(one)
        moved = {id(one): new for group in meeting.values() if len(group) > 1 for one, new in apart(group)}
        found = [replace(one, place=moved.get(id(one), one.place)) for one in found]
    _require_apart(found)
    return found


def _by_folder(group: list[Input]) -> Iterator[tuple[Input, Path]]:
    paths = [Path(os.path.abspath(one.path)) for one in group]
    common = Path(os.path.commonpath([path.parent for path in paths]))
    return ((one, path.relative_to(common).with_suffix("")) for one, path in zip(group, paths, strict=True))


def _by_ending(group: list[Input]) -> Iterator[tuple[Input, Path]]:
    return ((one, one.place.with_name(one.path.name)) for one in group)


def _require_apart(found: list[Input]) -> None:
    seen: dict[Path, Input] = {}
    for one in found:
        other = one if one.problem else seen.setdefault(one.place, one)
        if other is not one:
            raise BadInput(
                f"{printable(other.name)} and {printable(one.name)} would both give {printable(one.place)}",
                "inputs with results of their own",
                "one result would replace the other",
                "run the command once for each, with different folders for --output",
            )
