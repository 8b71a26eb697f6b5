"""Sequences as ArrayRecord files, by a tensorflow-datasets builder; and back. TensorFlow is not needed.

A record holds up to `RECORD_FRAMES` consecutive frames of one sequence, as JPEG; `index.npz` beside the records holds
names and boxes, so that a data set of any size opens at once and only the frames that are used are read.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from collections.abc import Sequence as Indexable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jaxtyping import UInt8

from roam_jax.data.sequences import DataError, Frames, ImageFiles, Sequence, digest_sequences
from roam_jax.errors import InputError
from roam_jax.extras import require
from roam_jax.pictures import decode_image

require("array_record")
require("tensorflow_datasets")
import tensorflow_datasets as tfds  # noqa: E402

RECORD_FRAMES = 32
"""frames of one record: about what one clip spans"""
STILLS = 64
"""photographs that are collected in one file"""
JPEG_QUALITY = 95
INDEX_FILE = "index.npz"


class RoamSequences(tfds.core.GeneratorBasedBuilder):
    """Pieces of sequences: JPEG frames with one box each."""

    VERSION = tfds.core.Version("1.0.0")

    def __init__(self, records: Callable[[], Iterator[dict[str, Any]]], **options: Any) -> None:
        self._records = records
        super().__init__(**options)

    def _info(self) -> tfds.core.DatasetInfo:
        # JPEG bytes as text: Image features want arrays, and Video wants TensorFlow
        features = tfds.features.FeaturesDict(
            {
                "name": tfds.features.Text(),
                "source": tfds.features.Text(),
                "still": np.bool_,
                "first_frame": np.int64,
                "frames": tfds.features.Sequence(tfds.features.Text()),
                "boxes_xywh": tfds.features.Tensor(shape=(None, 4), dtype=np.float32),
                "visible": tfds.features.Tensor(shape=(None,), dtype=np.bool_),
            }
        )
        return tfds.core.DatasetInfo(
            builder=self,
            description="Frames with one box each; boxes in image pixels from 0, NaN where the object is absent.",
            features=features,
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Iterator[tuple[int, dict[str, Any]]]]:
        return {"train": self._generate_examples()}

    def _generate_examples(self) -> Iterator[tuple[int, dict[str, Any]]]:
        yield from enumerate(self._records())


@dataclass(frozen=True)
class RecordStore:
    """The records of a prepared folder, opened when the first is read."""

    folder: Path

    @cached_property
    def _source(self) -> Indexable[dict[str, Any]]:
        splits: Any = tfds.builder_from_directory(self.folder).as_data_source()
        return splits["train"]

    def read(self, record: int) -> list[bytes]:
        """JPEG files of one record."""
        return self._source[record]["frames"]


@dataclass(frozen=True)
class RecordFrames(Frames):
    """Frames in consecutive records of a prepared folder."""

    store: RecordStore
    first_record: int
    count: int

    def __len__(self) -> int:
        return self.count

    def read(self, index: int) -> UInt8[np.ndarray, "h w 3"]:
        """One frame."""
        return self.get([index])[0]

    def get(self, indices: Indexable[int]) -> list[UInt8[np.ndarray, "h w 3"]]:
        """Several frames, in the order asked for; each record is read once and only these frames are decoded."""
        needed: dict[int, set[int]] = defaultdict(set)
        for index in indices:
            needed[index // RECORD_FRAMES].add(index)
        pictures = {}
        for piece, members in needed.items():
            files = self.store.read(self.first_record + piece)
            pictures |= {index: decode_jpeg(files[index % RECORD_FRAMES]) for index in members}
        return [pictures[index] for index in indices]

    def __iter__(self) -> Iterator[UInt8[np.ndarray, "h w 3"]]:
        for start in range(0, self.count, RECORD_FRAMES):
            yield from map(decode_jpeg, self.store.read(self.first_record + start // RECORD_FRAMES))


def encode_jpeg(image: UInt8[np.ndarray, "h w 3"]) -> bytes:
    """RGB picture as a JPEG file."""
    _, data = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    return data.tobytes()


def decode_jpeg(data: bytes) -> UInt8[np.ndarray, "h w 3"]:
    """RGB picture of a JPEG file.

    Raises:
        DataError: the bytes are no picture.
    """
    try:
        return decode_image(data, "of a prepared record")
    except InputError as error:
        raise DataError("a prepared record should hold JPEG pictures, but one cannot be decoded") from error


def jpeg_files(frames: Frames) -> Iterator[bytes]:
    """Every frame as a JPEG file; files that are JPEG already keep their bytes.

    Raises:
        DataError: a frame cannot be read.
    """
    if not isinstance(frames, ImageFiles):
        yield from map(encode_jpeg, frames)
        return
    for index, path in enumerate(frames.paths):
        image = frames.read(index)
        yield path.read_bytes() if path.suffix.lower() in (".jpg", ".jpeg") else encode_jpeg(image)


def prepare_sequences(
    sequences: Iterable[Sequence], out: Path | str, *, workers: int = 2, progress: Callable = iter
) -> Path:
    """Write sequences as a prepared folder, which appears only when it is complete.

    The JPEG files are collected in `OUT.partial` first, in one file per sequence or some stills; when the work is
    interrupted, the next call goes on with those that are missing there. For a while this takes the space twice; memory
    is needed for no more than a record.

    Args:
        sequences: what to write.
        out: the folder to make; it must not exist.
        workers: threads that read and encode, each its own sequence.
        progress: wraps the iteration over these files, as `tqdm` does.

    Raises:
        DataError: `out` exists, nothing to write, or a frame that cannot be read.
    """
    out, sequences = Path(out), list(sequences)
    if out.exists():
        raise DataError(f"{out} should not exist yet, but it does: choose another folder or remove it")
    if not sequences:
        raise DataError("there should be sequences to prepare, but there are none")
    partial = out.with_name(out.name + ".partial")
    groups = list(_group_stills(sequences))
    staged = [partial / "staged" / _staged_name(group) for group in groups]
    staged[0].parent.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(workers) as pool:
        try:
            different = dict(zip(staged, groups, strict=True))
            jobs = [pool.submit(_stage, group, path) for path, group in different.items()]
            for job in progress(jobs):
                job.result()
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise

    shutil.rmtree(partial / "build", ignore_errors=True)

    def records() -> Iterator[dict[str, Any]]:
        for group, path in zip(groups, staged, strict=True):
            yield from _records_of(group, path)

    builder = RoamSequences(records, data_dir=partial / "build", file_format="array_record")
    builder.download_and_prepare()
    built = Path(builder.data_path)
    _write_index(sequences, built / INDEX_FILE)
    out.parent.mkdir(parents=True, exist_ok=True)
    os.replace(built, out)
    shutil.rmtree(partial)
    return out


def read_prepared(folder: Path | str) -> list[Sequence]:
    """Sequences of a folder that `prepare_sequences` made; nothing but its index is opened.

    Raises:
        DataError: no such folder, or it is not a prepared one.
    """
    path = Path(folder) / INDEX_FILE
    if not path.is_file():
        raise DataError(f"{folder} should be a prepared data set with {INDEX_FILE}, but there is no such file")
    with np.load(path) as index:
        if int(index["record_frames"]) != RECORD_FRAMES:
            raise DataError(f"{folder} should have records of {RECORD_FRAMES} frames, but was made by another version")
        ends = np.cumsum(index["counts"])
        first_records = np.cumsum([0, *-(-index["counts"] // RECORD_FRAMES)])
        boxes, visible = np.split(index["boxes_xywh"], ends[:-1]), np.split(index["visible"], ends[:-1])
        columns = [index[key].tolist() for key in ("names", "sources", "stills", "counts")]
    store = RecordStore(Path(folder))
    return [
        Sequence(name, RecordFrames(store, int(first), count), boxes[i], source, still, visible[i])
        for i, (first, name, source, still, count) in enumerate(zip(first_records[:-1], *columns, strict=True))
    ]


def _group_stills(sequences: list[Sequence]) -> Iterator[list[Sequence]]:
    """Sequences alone, and stills that follow each other together, up to `STILLS` of them."""
    group: list[Sequence] = []
    for sequence in sequences:
        if group and not (sequence.still and group[-1].still and len(group) < STILLS):
            yield group
            group = []
        group.append(sequence)
    yield group


def _staged_name(group: list[Sequence]) -> str:
    """File name that tells sequences apart, now and when the work is taken up again."""
    files = [str(path.absolute()) for sequence in group for path in sequence.frames.files]
    where = hashlib.sha256("\n".join(files).encode(errors="surrogateescape")).hexdigest()
    return f"{digest_sequences(group)[:32]}{where[:16]}.jpegs"


def _stage(group: list[Sequence], path: Path) -> None:
    """Collect the JPEG files of sequences in one file, which is there only when it is whole.

    The files follow each other; their lengths stand behind them, and the number of lengths at the very end.
    """
    if path.exists():
        return
    temporary = path.with_suffix(".tmp")
    with temporary.open("wb") as stream:
        lengths = [stream.write(data) for sequence in group for data in jpeg_files(sequence.frames)]
        stream.write(np.array([*lengths, len(lengths)], "<i8").tobytes())
    os.replace(temporary, path)


def _records_of(group: list[Sequence], staged: Path) -> Iterator[dict[str, Any]]:
    with staged.open("rb") as stream:
        stream.seek(-8, os.SEEK_END)
        (count,) = np.frombuffer(stream.read(), "<i8").tolist()
        stream.seek(-8 * (count + 1), os.SEEK_END)
        lengths = iter(np.frombuffer(stream.read(8 * count), "<i8").tolist())
        stream.seek(0)
        for sequence in group:
            for start in range(0, len(sequence), RECORD_FRAMES):
                piece = slice(start, min(start + RECORD_FRAMES, len(sequence)))
                yield {
                    "name": sequence.name,
                    "source": sequence.source,
                    "still": sequence.still,
                    "first_frame": start,
                    "frames": [stream.read(next(lengths)) for _ in range(piece.start, piece.stop)],
                    "boxes_xywh": sequence.boxes_xywh[piece],
                    "visible": sequence.visible[piece],
                }


def _write_index(sequences: list[Sequence], path: Path) -> None:
    np.savez_compressed(
        path,
        record_frames=RECORD_FRAMES,
        names=[sequence.name for sequence in sequences],
        sources=[sequence.source for sequence in sequences],
        stills=[sequence.still for sequence in sequences],
        counts=[len(sequence) for sequence in sequences],
        boxes_xywh=np.concatenate([sequence.boxes_xywh for sequence in sequences]),
        visible=np.concatenate([sequence.visible for sequence in sequences]),
    )
