"""Find what there is of VoxCeleb2 on a disk, and say what is in which split; nothing is decoded here.

    <root>/vox2_meta.csv                               VoxCeleb2 ID, VGGFace2 ID, Gender, Set, with stray spaces
    <root>/{dev,test}/aac/<speaker>/<video>/00001.m4a  or .wav beside it, or wav/<speaker>/<video>/00001.wav
    <root>/{dev,test}/mp4/<speaker>/<video>/00001.mp4  224x224, the face followed

Of `dev` some speakers are put aside as `val`, and of every other speaker with enough videos two are withheld as `seen`;
`test` is the corpus's own. All choices follow from the seed and a speaker's name, whoever else there is.
"""

from __future__ import annotations

import csv
import os
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from train.corpus.layout import Clip, Sex
from train.errors import TrainError

PARTS = ("dev", "test")
SOUNDS = (("wav", ".wav"), ("aac", ".wav"), ("aac", ".m4a"))  # folder and ending, the readiest first
META = "vox2_meta.csv"
SEEN_VIDEOS, VIDEOS_FOR_SEEN = 2, 5  # withheld of a speaker with at least so many

_SHAPE = "<root>/{dev,test}/{aac,mp4}/<speaker>/<video>/00001.{m4a,mp4}"
_SEXES: dict[str, Sex] = {"f": "F", "m": "M"}


class Recording(NamedTuple):
    """A clip on the disk of which there are sound and film."""

    part: str
    speaker: str
    sex: Sex
    video: str
    name: str
    kind: tuple[str, str]  # one of `SOUNDS`

    def sound(self, root: Path) -> Path:
        """Its sound file."""
        return root / self.part / self.kind[0] / self.speaker / self.video / (self.name + self.kind[1])

    def film(self, root: Path) -> Path:
        """Its film."""
        return root / self.part / "mp4" / self.speaker / self.video / (self.name + ".mp4")


@dataclass
class Inventory:
    """What is there, and the names of what is not, or cannot be used."""

    recordings: list[Recording] = field(default_factory=list)
    missing: dict[str, list[str]] = field(default_factory=dict)  # kind of trouble -> names

    def miss(self, trouble: str, name: str) -> None:
        """Note something that is missing."""
        self.missing.setdefault(trouble, []).append(name)


def take_inventory(root: Path, meta: Path | None = None, *, clips_per_video: int = 0) -> Inventory:
    """Compare the disk with the table of speakers.

    Args:
        root: holds `dev` and `test`, or one of them.
        meta: the table; by default `vox2_meta.csv` in the root.
        clips_per_video: at most so many, the first by name; 0 is all.

    Returns:
        recordings with sound and film of speakers whose sex is known, in the order of their names.

    Raises:
        TrainError: no such layout at the root, or no readable table.
    """
    if not any((root / part).is_dir() for part in PARTS):
        raise TrainError(
            f"Neither dev nor test is a folder in {root}; wanted {_SHAPE} as VoxCeleb2 unpacks. Check --root."
        )
    sexes = read_meta(meta or root / META)
    inventory = Inventory()
    seen: dict[str, str] = {}
    for part in reversed(PARTS):  # test first: whoever is in both would be trained on
        for speaker, found in _speakers(root / part):
            if speaker not in sexes:
                inventory.miss("speakers on disk without a row in the table", f"{part}/{speaker}")
            elif speaker in seen:
                inventory.miss("speakers of dev who are in test as well", speaker)
            else:
                seen[speaker] = part
                _list_speaker(root / part, speaker, sexes[speaker], found, clips_per_video, inventory)
    for speaker in sexes:
        if speaker not in seen:
            inventory.miss("speakers in the table but not on disk", speaker)
    inventory.recordings.sort()
    return inventory


def read_meta(path: Path) -> dict[str, Sex]:
    """Read who is of which sex; every cell is stripped of spaces, and the file of its byte order mark.

    Raises:
        TrainError: missing, without the columns, or without rows.
    """
    if not path.is_file():
        raise TrainError(
            f"No table of speakers at {path}; wanted {META} of the VoxCeleb2 release, for the pairs of sexes. "
            "Put it there or name it with --meta."
        )
    with path.open(newline="", encoding="utf-8-sig", errors="replace") as file:
        rows = [[cell.strip() for cell in row] for row in csv.reader(file)]
    header = [name.lower() for name in rows[0]] if rows else []
    if not {"voxceleb2 id", "gender"} <= set(header):
        raise TrainError(
            f"{path} has the columns {', '.join(header) or 'of an empty file'}; wanted VoxCeleb2 ID and Gender. "
            f"Fetch {META} again."
        )
    name, sex = header.index("voxceleb2 id"), header.index("gender")
    people = {row[name]: _SEXES.get(row[sex][:1].lower()) for row in rows[1:] if len(row) > max(name, sex)}
    known = {person: known_sex for person, known_sex in people.items() if known_sex is not None}
    if not known:
        raise TrainError(f"{path} has no row with a speaker and m or f; fetch {META} again.")
    return known


def assign_splits(clips: list[Clip], *, val_speakers: int | None, seed: int) -> list[Clip]:
    """Give every clip its split.

    Args:
        clips: with the part, `dev` or `test`, as their split.
        val_speakers: of dev, half of each sex; by default a twentieth of them, from 2 to 100.
        seed: same seed, same choice.
    """
    videos: dict[str, set[str]] = {}
    sexes = {clip.speaker: clip.sex for clip in clips if clip.split == "dev"}
    for clip in clips:
        videos.setdefault(clip.speaker, set()).add(clip.video)
    count = min(100, max(2, len(sexes) // 20)) if val_speakers is None else val_speakers
    val = {
        speaker
        for sex, many in (("F", (count + 1) // 2), ("M", count // 2))
        for speaker in _ranked(seed, (name for name in sexes if sexes[name] == sex))[:many]
    }
    withheld = {
        (speaker, video)
        for speaker in sexes
        if speaker not in val and len(videos[speaker]) >= VIDEOS_FOR_SEEN
        for video in _ranked(seed, videos[speaker], prefix=f"{speaker}/")[:SEEN_VIDEOS]
    }
    return [replace(clip, split=_split_of(clip, val, withheld)) for clip in clips]


def _split_of(clip: Clip, val: set[str], withheld: set[tuple[str, str]]) -> str:
    if clip.split == "test":
        return "test"
    if clip.speaker in val:
        return "val"
    return "seen" if (clip.speaker, clip.video) in withheld else "train"


def _ranked(seed: int, names: Iterable[str], prefix: str = "") -> list[str]:
    """Shuffle names by a random number each, which depends on the seed and the name alone."""

    def rank(name: str) -> float:
        return float(np.random.default_rng((seed, zlib.crc32((prefix + name).encode()))).random())

    return sorted(names, key=lambda name: (rank(name), name))


def _speakers(part: Path) -> Iterator[tuple[str, set[tuple[str, str]]]]:
    """Every speaker of a part with the folders and endings under which there may be sound or film."""
    kinds: dict[str, set[str]] = {}
    for kind in ("wav", "aac", "mp4"):
        for speaker in _folders(part / kind):
            kinds.setdefault(speaker, set()).add(kind)
    for speaker in sorted(kinds):
        yield speaker, {kind for kind in (*SOUNDS, ("mp4", ".mp4")) if kind[0] in kinds[speaker]}


def _list_speaker(
    part: Path, speaker: str, sex: Sex, kinds: set[tuple[str, str]], clips_per_video: int, inventory: Inventory
) -> None:
    films = set(_clips(part, speaker, ("mp4", ".mp4"))) if ("mp4", ".mp4") in kinds else set()
    sounds: dict[tuple[str, str], tuple[str, str]] = {}
    for kind in SOUNDS:
        if kind in kinds:
            for clip in _clips(part, speaker, kind):
                sounds.setdefault(clip, kind)
    taken: dict[str, int] = {}
    for video, name in sorted(sounds):
        if (video, name) not in films:
            inventory.miss("sound without film", f"{part.name}/{speaker}/{video}/{name}")
        elif not clips_per_video or taken.get(video, 0) < clips_per_video:
            taken[video] = taken.get(video, 0) + 1
            kind = sounds[video, name]
            inventory.recordings.append(Recording(part.name, speaker, sex, video, name, kind))
    for video, name in sorted(films - set(sounds)):
        inventory.miss("film without sound", f"{part.name}/{speaker}/{video}/{name}")


def _clips(part: Path, speaker: str, kind: tuple[str, str]) -> Iterator[tuple[str, str]]:
    folder, ending = kind
    for video in _folders(part / folder / speaker):
        with os.scandir(part / folder / speaker / video) as entries:
            for entry in entries:
                if entry.name.endswith(ending):
                    yield video, entry.name[: -len(ending)]


def _folders(parent: Path) -> list[str]:
    if not parent.is_dir():
        return []
    with os.scandir(parent) as entries:
        return [entry.name for entry in entries if entry.is_dir() and not entry.name.startswith(".")]
