"""How long it takes to list a large data set: at first, from its index, and after a change.

`python benchmarks/index.py --sequences 10000 --frames 100` writes data sets with empty pictures into a temporary folder
(a million files each) and prints seconds, and in brackets those of the processor: `first` reads every annotation,
`again` only asks whether files have changed, `changed` finds that one has and reads everything once more. All files are
in the system's cache.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import tyro

from roam_jax.data.index import index_path, read_with_index
from roam_jax.data.layouts import find_reader


def write_got10k(root: Path, sequences: int, frames: int) -> Path:
    """Returns an annotation file."""
    names = [f"GOT-10k_Train_{number:06d}" for number in range(1, sequences + 1)]
    (root / "train").mkdir(parents=True)
    (root / "train" / "list.txt").write_text("\n".join(names))
    boxes, zeros, eights = make_boxes(frames, "{:.4f}"), "0\n" * frames, "8\n" * frames
    for name in names:
        folder = root / "train" / name
        folder.mkdir()
        for number in range(1, frames + 1):
            (folder / f"{number:08d}.jpg").touch()
        (folder / "groundtruth.txt").write_text(boxes)
        (folder / "absence.label").write_text(zeros)
        (folder / "cover.label").write_text(eights)
        (folder / "cut_by_image.label").write_text(zeros)
        (folder / "meta_info.ini").write_text("[METAINFO]\nobject_class: snake\nmotion_class: crawling\n")
    return root / "train" / names[0] / "groundtruth.txt"


def write_trackingnet(root: Path, sequences: int, frames: int) -> Path:
    """Returns an annotation file."""
    boxes = make_boxes(frames, "{:.2f}")
    for number in range(sequences):
        part = root / f"TRAIN_{number % 12}"
        folder = part / "frames" / f"video{number}_0"
        folder.mkdir(parents=True)
        for frame in range(frames):
            (folder / f"{frame}.jpg").touch()
        (part / "anno").mkdir(exist_ok=True)
        (part / "anno" / f"{folder.name}.txt").write_text(boxes)
    return root / "TRAIN_0" / "anno" / "video0_0.txt"


def make_boxes(count: int, form: str) -> str:
    boxes = np.random.default_rng(0).uniform(5, 500, (count, 4))
    return "".join(",".join(form.format(value) for value in box) + "\n" for box in boxes)


WRITERS: dict[str, Callable[[Path, int, int], Path]] = {
    "got10k-train": write_got10k,
    "trackingnet": write_trackingnet,
}


def measure(layout: str, sequences: int, frames: int, folder: Path) -> str:
    root, cache = folder / layout, folder / "cache"
    text = WRITERS[layout](root, sequences, frames)
    reader = find_reader(layout).read

    def seconds() -> str:
        start, cpu_start = time.perf_counter(), time.process_time()
        found = read_with_index(layout, root, reader, folder=cache)
        assert len(found) == sequences
        return f"{time.perf_counter() - start:.2f} ({time.process_time() - cpu_start:.2f})"

    first, again = seconds(), min(seconds() for _ in range(3))
    text.write_text(text.read_text() + "\n")
    changed = seconds()
    size = index_path(layout, root, cache).stat().st_size / 2**20
    return f"| {layout} | {sequences} | {sequences * frames} | {first} | {again} | {changed} | {size:.0f} |"


def main(
    sequences: int = 10_000, frames: int = 100, layouts: tuple[str, ...] = tuple(WRITERS), folder: Path | None = None
) -> None:
    """Measure.

    Args:
        sequences: in each data set.
        frames: of each sequence.
        layouts: which data sets.
        folder: where to write them; by default the system's folder for temporary files.
    """
    print("| layout | sequences | frames | first s | again s | changed s | index MiB |")
    print("|---|---:|---:|---:|---:|---:|---:|")
    for layout in layouts:
        with tempfile.TemporaryDirectory(dir=folder) as place:
            print(measure(layout, sequences, frames, Path(place)), flush=True)


if __name__ == "__main__":
    tyro.cli(main)
