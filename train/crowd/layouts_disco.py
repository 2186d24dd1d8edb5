"""DISCO, photographs with their sound (section 5.1), as the benchmark's own code reads it.

    DISCO/
      imgs/<id>.jpg
      auds/<id>.wav                        one second; without the folder the scenes have no sound
      density/{train,val,test}/<id>.mat    `map` (H, W), people per pixel of the photo; its folder is the split
      points/<id>.txt                      if there: "x y" of a head in each line; also <anything>_<id>.txt

The maps are the published truth. Their kernels were cut at the border without keeping the mass, so a map sums to fewer
people than there are heads near it: where points are there, they are the count. Where `density` holds only
cross_scene_{train,val,test}, the benchmark's other split, that is read.

Source: github.com/qingzwang/AudioVisualCrowdCounting, datasets/AC, commit f801b1a.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

from train.crowd.annotations import read_text_points
from train.crowd.layouts_matlab import pictures_of
from train.crowd.scene import Scene
from train.crowd.splits import Split, by_number, few, select
from train.errors import TrainError

_SPLITS = ("train", "val", "test")
_CROSS_SCENE = "cross_scene_"


def is_disco(folder: Path) -> bool:
    """Whether it has pictures and the density maps of a split at least."""
    return (folder / "imgs").is_dir() and bool(_split_folders(folder))


def read_disco(folder: Path, split: Split) -> list[Scene]:
    """The scenes of one split, with sound, density map, and points where there are any.

    Raises:
        TrainError: a density map without its picture or sound; two files of points for one picture.
    """
    return select(folder, {name: partial(_read, folder, maps) for name, maps in _split_folders(folder).items()}, split)


def _split_folders(folder: Path) -> dict[str, Path]:
    for prefix in ("", _CROSS_SCENE):
        found = {name: folder / "density" / f"{prefix}{name}" for name in _SPLITS}
        present = {name: path for name, path in found.items() if path.is_dir()}
        if present:
            return present
    return {}


def _read(folder: Path, maps: Path) -> list[Scene]:
    truths = {path.stem: path for path in sorted(maps.glob("[!.]*.mat"), key=lambda path: by_number(path.name))}
    pictures = pictures_of(folder / "imgs")
    sounds = {path.stem: path for path in (folder / "auds").glob("[!.]*.wav")}
    _require(maps, truths, pictures, "picture in imgs")
    if (folder / "auds").is_dir():
        _require(maps, truths, sounds, "sound in auds")
    points = _point_files(folder / "points", pictures)
    return [
        Scene(
            pictures[name].relative_to(folder).as_posix(),
            pictures[name],
            read_text_points(points[name]) if name in points else None,
            truth,
            sounds.get(name),
        )
        for name, truth in truths.items()
    ]


def _require(maps: Path, truths: dict[str, Path], files: dict[str, Path], kind: str) -> None:
    missing = [path.name for name, path in truths.items() if name not in files]
    if missing:
        raise TrainError(
            f"{maps} holds {len(missing)} density maps without their {kind}: {few(missing)}. Wanted all of them, "
            "because a scene that is left out changes every figure. Unpack that archive again."
        )


def _point_files(folder: Path, pictures: dict[str, Path]) -> dict[str, Path]:
    """The files of points by the picture's stem, which is their own or what follows their first underscore."""
    found: dict[str, Path] = {}
    for path in sorted(folder.glob("[!.]*.txt")):
        name = path.stem if path.stem in pictures else path.stem.partition("_")[2]
        if name in found:
            raise TrainError(
                f"{found[name]} and {path} are both points of {name!r}; wanted one file for each picture, because one "
                "of them would be dropped. The published archive repeats names: keep the one that fits the picture."
            )
        if name in pictures:
            found[name] = path
    return found
