"""Frames with one box each, whatever the folder looks like: readers that open nothing but the annotations.

All boxes leave here as `xywh` in continuous 0-based image coordinates, where pixel (row i, column j) covers
[j, j + 1) x [i, i + 1). A row of NaN says that the object is not in the frame. Pictures are read when asked for.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import re
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Iterable, Iterator
from collections.abc import Sequence as Indices
from dataclasses import dataclass, field, replace
from pathlib import Path

import av
import cv2
import numpy as np
from av.error import FFmpegError
from jaxtyping import Bool, Float32, UInt8

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp")
VIDEO_SUFFIXES = (".mp4", ".mkv", ".avi", ".mov", ".webm")

OTB_RANGES = {
    "David": (300, 770),
    "Football1": (1, 74),
    "Freeman3": (1, 460),
    "Freeman4": (1, 283),
    "Diving": (1, 215),
}
"""first and last frame number, for the sequences of OTB that have more frames than boxes or the other way round"""


class DataError(Exception):
    """Data that are not what their layout promises; the message says what was expected, and where."""


class Frames(ABC):
    """Lazy list of RGB pictures."""

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def read(self, index: int) -> UInt8[np.ndarray, "h w 3"]:
        """Frame of an index in 0 .. len - 1."""

    @property
    def files(self) -> tuple[Path, ...]:
        """Files that hold the frames, where there are any."""
        return ()

    def get(self, indices: Indices[int]) -> list[UInt8[np.ndarray, "h w 3"]]:
        """Several frames, in the order asked for; one that is asked for twice is read once."""
        pictures = {index: self.read(index) for index in sorted(set(indices))}
        return [pictures[index] for index in indices]

    def __getitem__(self, index: int) -> UInt8[np.ndarray, "h w 3"]:
        return self.read(range(len(self))[index])

    def __iter__(self) -> Iterator[UInt8[np.ndarray, "h w 3"]]:
        return (self.read(index) for index in range(len(self)))


@dataclass(frozen=True)
class ImageFiles(Frames):
    """Frames that are files of their own."""

    paths: tuple[Path, ...]

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def files(self) -> tuple[Path, ...]:
        """The pictures."""
        return self.paths

    def read(self, index: int) -> UInt8[np.ndarray, "h w 3"]:
        """One file, decoded."""
        image = cv2.imread(str(self.paths[index]), cv2.IMREAD_COLOR)
        if image is None:
            raise DataError(f"{self.paths[index]} should be a picture, but it cannot be read")
        return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


@dataclass(frozen=True)
class VideoFrames(Frames):
    """Frames of a video file, decoded from its beginning: short videos often have a single key frame."""

    path: Path
    count: int

    def __len__(self) -> int:
        return self.count

    @property
    def files(self) -> tuple[Path, ...]:
        """The video."""
        return (self.path,)

    def read(self, index: int) -> UInt8[np.ndarray, "h w 3"]:
        """One frame; all before it are decoded too."""
        return self.get([index])[0]

    def get(self, indices: Indices[int]) -> list[UInt8[np.ndarray, "h w 3"]]:
        """Several frames, in the order asked for; only these are converted to RGB.

        Raises:
            DataError: the file cannot be decoded or ends too early.
        """
        wanted, last = set(indices), max(indices)
        decoded = enumerate(itertools.islice(self._decode(), last + 1))
        pictures = {index: frame.to_ndarray(format="rgb24") for index, frame in decoded if index in wanted}
        self._check_end(last in pictures)
        return [pictures[index] for index in indices]

    def __iter__(self) -> Iterator[UInt8[np.ndarray, "h w 3"]]:
        count = 0
        for frame in itertools.islice(self._decode(), self.count):
            yield frame.to_ndarray(format="rgb24")
            count += 1
        self._check_end(count == self.count)

    def _check_end(self, complete: bool) -> None:
        if not complete:
            raise DataError(f"{self.path} should have {self.count} frames, one for each box, but it ends before")

    def _decode(self) -> Iterator[av.VideoFrame]:
        try:
            with av.open(str(self.path)) as container:
                container.streams.video[0].thread_type = "AUTO"
                yield from container.decode(video=0)
        except (FFmpegError, IndexError) as error:
            raise DataError(f"{self.path} should be a video, but it cannot be decoded: {error}") from error


@dataclass(frozen=True, eq=False)
class Sequence:
    """One object through the frames of one video, or in one still picture."""

    name: str
    frames: Frames
    """lazy RGB pictures"""
    boxes_xywh: Float32[np.ndarray, "n 4"]
    """image pixels, 0-based; NaN where the object is absent"""
    source: str = ""
    """where it comes from; sources are mixed by weight"""
    still: bool = False
    """a photograph that is repeated into a clip"""
    visible: Bool[np.ndarray, " n"] = field(default=None)  # type: ignore[assignment]
    """the object can be seen; by default wherever the box is finite and not empty"""

    def __post_init__(self) -> None:
        boxes = np.asarray(self.boxes_xywh, np.float32).reshape(-1, 4)
        present = np.asarray(np.isfinite(boxes).all(axis=1) & (boxes[:, 2:] > 0).all(axis=1))
        seen = present if self.visible is None else present & np.asarray(self.visible, bool)
        object.__setattr__(self, "boxes_xywh", np.where(present[:, None], boxes, np.float32(np.nan)))
        object.__setattr__(self, "visible", seen)
        if len(self.frames) != len(boxes):
            raise DataError(f"sequence {self.name} should have one box per frame: {len(self.frames)} and {len(boxes)}")

    def __len__(self) -> int:
        return len(self.frames)


def read_boxes(path: Path) -> Float32[np.ndarray, "n 4"]:
    """Rows `x y w h` of a text file, between commas, semicolons, tabs or spaces; empty lines at its end are dropped.

    Raises:
        DataError: no such file, or a line that is not four numbers (`nan` is a number).
    """
    if not path.is_file():
        raise DataError(f"{path} should hold one box x,y,w,h per line, but there is no such file")
    rows = []
    for number, line in enumerate(path.read_text(encoding="utf-8-sig").rstrip().splitlines(), start=1):
        parts = [part for part in re.split(r"[,;\s]+", line.strip()) if part]
        try:
            rows.append([float(part) for part in parts])
        except ValueError:
            rows.append([])
        if len(rows[-1]) != 4:
            raise DataError(f"{path} line {number} should be four numbers x,y,w,h, but is {line.strip()[:60]!r}")
    if not rows:
        raise DataError(f"{path} should hold one box x,y,w,h per line, but it is empty")
    return np.asarray(rows, np.float32)


def read_videos(folder: Path | str, source: str = "") -> list[Sequence]:
    """Own videos: `NAME.mp4` with `NAME.txt`, one line x,y,w,h per frame, 0-based; a line of `nan` or zeros: absent.

    Args:
        folder: where the pairs lie.
        source: the sequences' source; the folder's name by default.

    Raises:
        DataError: no videos there, a video without text, or a text that cannot be read.
    """
    folder = _existing(folder)
    videos = _files(folder, VIDEO_SUFFIXES)
    if not videos:
        raise DataError(f"{folder} should hold videos NAME.mp4 with their NAME.txt, but no video is there")
    sequences = []
    for video in videos:
        boxes = read_boxes(video.with_suffix(".txt"))
        sequences.append(Sequence(video.stem, VideoFrames(video, len(boxes)), boxes, source or folder.name))
    return sequences


def read_image_folder(folder: Path | str, source: str = "") -> list[Sequence]:
    """Own pictures: a folder of frames in the order of their names with `groundtruth.txt`, x,y,w,h per line, 0-based.

    Args:
        folder: one such folder, or a folder of them.
        source: the sequences' source; the folder's name by default.

    Raises:
        DataError: no such folder, or not one box per picture.
    """
    folder = _existing(folder)
    return [
        _from_pictures(child.name, _files(child, IMAGE_SUFFIXES), child / "groundtruth.txt", 0.0, source or folder.name)
        for child in _sequence_folders(folder, "groundtruth.txt")
    ]


def read_otb_folder(root: Path | str, source: str = "otb") -> list[Sequence]:
    """OTB: `NAME/img/*.jpg` with `NAME/groundtruth_rect.txt`, 1-based boxes, which become 0-based.

    A folder with two objects (`groundtruth_rect.1.txt`, `.2.txt`) gives the sequences NAME-1 and NAME-2.

    Args:
        root: one sequence, or the folder of all of them.
        source: the sequences' source.

    Raises:
        DataError: no such layout there, or not one box per picture.
    """
    sequences = []
    for folder in _sequence_folders(_existing(root), "groundtruth_rect*.txt"):
        pictures, name = _files(folder / "img", IMAGE_SUFFIXES), folder.name
        if name in OTB_RANGES:
            first, last = OTB_RANGES[name]
            pictures = [p for p in pictures if p.stem.isdigit() and first <= int(p.stem) <= last]
        for text in sorted(folder.glob("groundtruth_rect*.txt")):
            target = text.stem.removeprefix("groundtruth_rect").replace(".", "-")
            count = len(pictures) if name in OTB_RANGES else None
            sequences.append(_from_pictures(name + target, pictures, text, 1.0, source, count))
    return sequences


def read_got10k(root: Path | str, source: str = "got10k") -> list[Sequence]:
    """GOT-10k: `NAME/*.jpg` with `NAME/groundtruth.txt` (0-based, as its toolkit) and `NAME/absence.label`.

    Args:
        root: one sequence, or a folder of them (`train` or `val`).
        source: the sequences' source.

    Raises:
        DataError: no such layout there, or not one box per picture.
    """
    sequences = []
    for folder in _sequence_folders(_existing(root), "groundtruth.txt"):
        pictures = _files(folder, IMAGE_SUFFIXES)
        sequence = _from_pictures(folder.name, pictures, folder / "groundtruth.txt", 0.0, source)
        label = folder / "absence.label"
        if label.is_file():
            flags = label.read_text().split()
            if len(flags) != len(sequence) or set(flags) - {"0", "1"}:
                raise DataError(f"{label} should hold one 0 or 1 for each of the {len(sequence)} frames")
            present = np.array([flag == "0" for flag in flags])
            sequence = Sequence(sequence.name, sequence.frames, sequence.boxes_xywh, source, visible=present)
        sequences.append(sequence)
    return sequences


def read_coco(
    images_dir: Path | str,
    annotations: Path | str,
    *,
    main_only: bool = False,
    min_side_px: float = 12.0,
    max_aspect: float = 6.0,
    max_extent: float = 0.8,
    source: str = "coco",
) -> list[Sequence]:
    """Still pictures with boxes in COCO's detection format: one sequence of one frame per usable annotation.

    Args:
        images_dir: where the pictures lie.
        annotations: the JSON file; boxes x, y, w, h, 0-based.
        main_only: keep only annotations with the extra key `main` equal to 1.
        min_side_px: boxes with a shorter side are dropped.
        max_aspect: boxes with a larger ratio of long to short side are dropped.
        max_extent: boxes that cover more than this part of the width or the height are dropped.
        source: the sequences' source.

    Raises:
        DataError: no such file, not COCO's format, or nothing usable in it.
    """
    folder, path = _existing(images_dir), Path(annotations)
    if not path.is_file():
        raise DataError(f"{path} should be a COCO detection file, but there is no such file")
    try:
        content = json.loads(path.read_text())
        images = {image["id"]: image for image in content["images"]}
        sequences = []
        for note in content["annotations"]:
            image = images[note["image_id"]]
            limit = np.array([image["width"], image["height"]], np.float32)
            x, y, w, h = note["bbox"]
            low, high = np.clip([[x, y], [x + w, y + h]], 0.0, limit)
            size = high - low
            crowd, main = note.get("iscrowd", 0), note.get("main", 0)
            fits = (
                size.min() >= min_side_px
                and size.max() <= max_aspect * size.min()
                and (size <= max_extent * limit).all()
            )
            if fits and not crowd and (main == 1 or not main_only):
                name = f"{Path(image['file_name']).stem}_{note['id']}"
                box = np.concatenate([low, size])[None].astype(np.float32)
                sequences.append(Sequence(name, ImageFiles((folder / image["file_name"],)), box, source, still=True))
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} should be in COCO's detection format, but it is not: {error!r}") from error
    if not sequences:
        raise DataError(f"{path} should hold boxes of at least {min_side_px:g} pixels a side, but none is usable")
    return sequences


def group_by_source(sequences: Iterable[Sequence]) -> dict[str, list[Sequence]]:
    """Sequences of each source, in their order."""
    groups: dict[str, list[Sequence]] = defaultdict(list)
    for sequence in sequences:
        groups[sequence.source].append(sequence)
    return dict(groups)


def name_sources(sequences: Iterable[Sequence]) -> list[Sequence]:
    """The same sequences, with the part of their name before the first underscore as their source."""
    return [replace(sequence, source=sequence.name.split("_")[0]) for sequence in sequences]


def digest_sequences(sequences: Iterable[Sequence]) -> str:
    """SHA-256 of names, sources and annotations, in hexadecimal; the pictures are not looked at."""
    state = hashlib.sha256()
    for sequence in sequences:
        state.update(repr((sequence.name, sequence.source, sequence.still, len(sequence))).encode())
        state.update(np.nan_to_num(sequence.boxes_xywh, nan=-1.0).tobytes())
        state.update(sequence.visible.tobytes())
    return state.hexdigest()


def _existing(folder: Path | str) -> Path:
    if not Path(folder).is_dir():
        raise DataError(f"{folder} should be a folder of data, but there is no such folder")
    return Path(folder)


def _files(folder: Path, suffixes: tuple[str, ...]) -> list[Path]:
    if not folder.is_dir():
        raise DataError(f"{folder} should be a folder of frames, but there is no such folder")
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in suffixes)


def _sequence_folders(root: Path, pattern: str) -> list[Path]:
    """The root itself, or its children, where an annotation file of that name lies."""
    folders = [folder for folder in [root, *sorted(root.iterdir())] if folder.is_dir() and any(folder.glob(pattern))]
    if not folders:
        raise DataError(f"{root} or the folders in it should hold {pattern}, but there is none")
    return folders


def _from_pictures(
    name: str, pictures: list[Path], text: Path, origin: float, source: str, count: int | None = None
) -> Sequence:
    """Sequence of picture files and an annotation file whose first pixel has the coordinate `origin`.

    `count`: boxes to keep, for files that are known to hold more.
    """
    boxes = read_boxes(text)[:count]
    if len(pictures) != len(boxes):
        raise DataError(f"{text} should hold one box per picture, but there are {len(boxes)} and {len(pictures)}")
    return Sequence(name, ImageFiles(tuple(pictures)), boxes - np.array([origin, origin, 0, 0], np.float32), source)
