"""Own data: videos with a text file each, and folders of pictures with `groundtruth.txt`."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from collections.abc import Sequence as Indices
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
from av.container import InputContainer
from av.error import FFmpegError
from jaxtyping import UInt8

from roam_jax.data.readers.common import pair, sequence_folders
from roam_jax.data.readers.tree import Tree
from roam_jax.data.sequences import DataError, Frames, Sequence
from roam_jax.pictures import upright

VIDEO_SUFFIXES = (".mp4", ".mkv", ".avi", ".mov", ".webm")


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
        needed, last = set(indices), max(indices)
        decoded = enumerate(itertools.islice(self._decode(), last + 1))
        pictures = {index: upright(frame) for index, frame in decoded if index in needed}
        self._check_end(last in pictures)
        return [pictures[index] for index in indices]

    def __iter__(self) -> Iterator[UInt8[np.ndarray, "h w 3"]]:
        count = 0
        for frame in itertools.islice(self._decode(), self.count):
            yield upright(frame)
            count += 1
        self._check_end(count == self.count)

    def count_decoded(self) -> int:
        """Frames that the file really has.

        They are only decoded where the container tells another number than is expected: it may count such as are never
        shown.

        Raises:
            DataError: the file cannot be opened or decoded.
        """
        try:
            with self._open() as container:
                stream = container.streams.video[0]
                told = stream.frames or sum(packet.size > 0 for packet in container.demux(stream))
        except (FFmpegError, IndexError) as error:
            raise DataError(f"{self.path} should be a video, but it cannot be opened: {error}") from error
        return told if told == self.count else sum(1 for _ in self._decode())

    def _check_end(self, complete: bool) -> None:
        if not complete:
            raise DataError(f"{self.path} should have {self.count} frames, one for each box, but it ends before")

    def _open(self) -> InputContainer:
        return av.open(str(self.path), metadata_errors="replace")  # titles need not be UTF-8

    def _decode(self) -> Iterator[av.VideoFrame]:
        try:
            with self._open() as container:
                container.streams.video[0].thread_type = "AUTO"
                yield from container.decode(video=0)
        except (FFmpegError, IndexError) as error:
            raise DataError(f"{self.path} should be a video, but it cannot be decoded: {error}") from error


def read_videos(folder: Path | str | Tree, source: str = "") -> list[Sequence]:
    """Own videos: `NAME.mp4` with `NAME.txt`, one line x,y,w,h per frame, 0-based; a line of `nan` or zeros: absent.

    Args:
        folder: where the pairs lie.
        source: the sequences' source; the folder's name by default.

    Raises:
        DataError: no videos there, a video without text, a text that cannot be read, or not one box per frame.
    """
    tree = Tree.of(folder)
    videos = [tree.root / name for name in tree.names(tree.root) if name.lower().endswith(VIDEO_SUFFIXES)]
    if not videos:
        raise DataError(f"{tree.root} should hold videos NAME.mp4 with their NAME.txt, but no video is there")

    def read(video: Path) -> Iterator[Sequence]:
        text = video.with_suffix(".txt")
        boxes = tree.boxes(text)
        frames = VideoFrames(video, len(boxes))
        try:
            count = frames.count_decoded()
        except DataError:
            # Those who use a sequence find out that it cannot be read, and may go on without it.
            if tree.problems is not None:
                raise
            count = len(boxes)
        if count != len(boxes):
            raise DataError(f"{text} should hold one box per frame, but there are {len(boxes)} and {count} frames")
        yield Sequence(video.stem, frames, boxes, source or tree.root.name)

    return tree.each(read, videos)


def read_image_folder(folder: Path | str | Tree, source: str = "") -> list[Sequence]:
    """Own pictures: a folder of frames in the order of their names with `groundtruth.txt`, x,y,w,h per line, 0-based.

    Args:
        folder: one such folder, or a folder of them.
        source: the sequences' source; the folder's name by default.

    Raises:
        DataError: no such folder, or not one box per picture.
    """
    tree = Tree.of(folder)

    def read(child: Path) -> Iterator[Sequence]:
        text = child / "groundtruth.txt"
        yield pair(child.name, tree.pictures(child), tree.boxes(text), text, source or tree.root.name)

    return tree.each(read, sequence_folders(tree, tree.root, "groundtruth.txt"))
