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
import tensorflow_datasets as tfds
from jaxtyping import UInt8

from roam_jax.data.sequences import DataError, Frames, ImageFiles, Sequence, digest_sequences

RECORD_FRAMES = 32
"""frames of one record: about what one clip spans"""
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
        wanted: dict[int, set[int]] = defaultdict(set)
        for index in indices:
            wanted[index // RECORD_FRAMES].add(index)
        pictures = {}
        for piece, members in wanted.items():
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
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    if image is None:
        raise DataError("a prepared record should hold JPEG pictures, but one cannot be decoded")
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


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
    sequences: Iterable[Sequence], out: Path | str, *, n_threads: int = 2, progress: Callable = iter
) -> Path:
    """Write sequences as a prepared folder, which appears only when it is complete.

    The JPEG files are collected in `OUT.partial` first, one file per sequence; when the work is interrupted, the next
    call goes on with the sequences that are missing there. For a while this takes the space twice.

    Args:
        sequences: what to write.
        out: the folder to make; it must not exist.
        n_threads: sequences that are read at once.
        progress: wraps the iteration over the sequences, as `tqdm` does.

    Raises:
        DataError: `out` exists, nothing to write, or a frame that cannot be read.
    """
    out, sequences = Path(out), list(sequences)
    if out.exists():
        raise DataError(f"{out} should not exist yet, but it does: choose another folder or remove it")
    if not sequences:
        raise DataError("there should be sequences to prepare, but there are none")
    partial = out.with_name(out.name + ".partial")
    staged = [partial / "staged" / _staged_name(sequence) for sequence in sequences]
    staged[0].parent.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(n_threads) as pool:
        try:
            different = dict(zip(staged, sequences, strict=True))
            jobs = [pool.submit(_stage, sequence, path) for path, sequence in different.items()]
            for job in progress(jobs):
                job.result()
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise

    shutil.rmtree(partial / "build", ignore_errors=True)

    def records() -> Iterator[dict[str, Any]]:
        for sequence, path in zip(sequences, staged, strict=True):
            yield from _records_of(sequence, path)

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


def _staged_name(sequence: Sequence) -> str:
    """File name that tells sequences apart, now and when the work is taken up again."""
    where = hashlib.sha256("\n".join(str(path.absolute()) for path in sequence.frames.files).encode()).hexdigest()
    return f"{digest_sequences([sequence])[:32]}{where[:16]}.npz"


def _stage(sequence: Sequence, path: Path) -> None:
    """Collect the JPEG files of a sequence in one file, which is there only when it is whole."""
    if path.exists():
        return
    files = list(jpeg_files(sequence.frames))
    temporary = path.with_suffix(".tmp")
    with temporary.open("wb") as stream:
        np.savez(stream, lengths=[len(data) for data in files], data=np.frombuffer(b"".join(files), np.uint8))
    os.replace(temporary, path)


def _records_of(sequence: Sequence, staged: Path) -> Iterator[dict[str, Any]]:
    with np.load(staged) as content:
        data, ends = content["data"].tobytes(), np.cumsum(content["lengths"])
    files = [data[end - length : end] for length, end in zip(np.diff(ends, prepend=0), ends, strict=True)]
    for start in range(0, len(files), RECORD_FRAMES):
        piece = slice(start, start + RECORD_FRAMES)
        yield {
            "name": sequence.name,
            "source": sequence.source,
            "still": sequence.still,
            "first_frame": start,
            "frames": files[piece],
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
