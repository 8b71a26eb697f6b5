"""Damaged inputs of every kind end in an exit code that the README explains: no traceback, and in a short time.

`ROAM_FUZZ=1000 pytest tests/fuzz` tries as many of each kind. A case is its kind and its number: what failed is tried
again with the same bytes.
"""

from __future__ import annotations

import collections
import faulthandler
import json
import os
import shutil
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import seeds

from roam_jax import evaluate, track
from roam_jax.checkpoints.manifest import MANIFEST, digest_json
from roam_jax.cli import ExitCode, run_command
from roam_jax.video.formats import read_observations

CASES = int(os.environ.get("ROAM_FUZZ", "5"))
"""of each kind"""
SECONDS = 20.0
"""that a case may take; most take a fiftieth of one"""
WORDS = (
    b"nan",
    b"-inf",
    b"1e400",
    b"9" * 25,
    b"-",
    b",",
    b"\n",
    b"\x00",
    b"\xff\xfe",
    b"\xff" * 8,
    b"null",
    b"[[",
    b"",
)


VALUES = (None, True, -1, 0, 2**70, 1e300, "", "x", [], {}, [[1]], {"a": 1}, "float32", "O")
EXPECTED = {ExitCode.SUCCESS, ExitCode.USAGE, ExitCode.INPUT, ExitCode.CHECKPOINT}
"""of the codes that the README explains, those for which an input can be the reason"""


Run = Callable[[Path, Path, dict[str, Path]], int]
"""runs a command on a damaged input, with a folder for its output and the whole inputs of all kinds"""


class Still:
    """Tracker that stays where it is."""

    box, score, lost = np.zeros(4, np.float32), 1.0, False

    def init(self, image, box_xywh):
        assert image.dtype == np.uint8
        self.box, self.shape = np.asarray(box_xywh, np.float32), image.shape

    def update(self, image):
        assert (image.dtype, image.shape) == (np.uint8, self.shape)
        return self.box


def make_still(checkpoint, config, count):
    return [Still() for _ in range(count)]


def load_and_stay(checkpoint, config, count):
    """The checkpoint is read as it is for tracking."""
    track.make_online_trackers(checkpoint, config, count)
    return make_still(checkpoint, config, count)


def mutate(data: bytes, rng: np.random.Generator) -> bytes:
    """The bytes with one to four changes: bits flipped, the end or a piece cut, bytes or words put in or over."""
    changed = bytearray(data)
    for _ in range(rng.integers(1, 5)):
        at = int(rng.integers(len(changed) + 1))
        # containers and tables begin with what decides how the rest is read
        at = min(at, int(rng.integers(1, 200))) if rng.random() < 0.3 else at
        word = WORDS[rng.integers(len(WORDS))] if rng.random() < 0.5 else rng.bytes(int(rng.integers(1, 9)))
        match rng.integers(6):
            case 0 | 1 if at < len(changed):
                changed[at] ^= 1 << int(rng.integers(8))
            case 2:
                changed[at : at + len(word)] = word
            case 3:
                changed[at:at] = word
            case 4:
                del changed[at : at + int(rng.integers(1, 40))]
            case _:
                if rng.random() < 0.4:
                    del changed[at:]
    return bytes(changed)


def mutate_a_file(whole: Path, damaged: Path, rng: np.random.Generator, names: str = "*") -> None:
    """Copy of a file, or of a folder with one file damaged of those that match."""
    if whole.is_file():
        damaged.write_bytes(mutate(whole.read_bytes(), rng))
        return
    shutil.copytree(whole, damaged)
    files = sorted(path for path in damaged.rglob(names) if path.is_file())
    file = files[rng.integers(len(files))]
    file.write_bytes(mutate(file.read_bytes(), rng))


def sign_again(whole: Path, folder: Path, rng: np.random.Generator) -> None:
    """Copy of a checkpoint in whose manifest one part is something else, with a digest that agrees."""
    shutil.copytree(whole, folder)
    manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    manifest.pop("sha256")
    node, keys = manifest, sorted(manifest)
    while True:
        key = keys[rng.integers(len(keys))]
        inner = node[key]
        if not inner or not isinstance(inner, dict | list) or rng.random() < 0.1:
            break
        node, keys = inner, sorted(inner) if isinstance(inner, dict) else list(range(len(inner)))
    node[key] = VALUES[rng.integers(len(VALUES))]
    (folder / MANIFEST).write_text(json.dumps({**manifest, "sha256": digest_json(manifest)}), encoding="utf-8")


def remove(*paths: Path) -> None:
    """Remove files and folders that are no longer needed."""
    for path in paths:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


@dataclass(frozen=True)
class Kind:
    """A kind of input."""

    suffix: str
    make: Callable[[Path], None]
    run: Run
    damage: Callable[[Path, Path, np.random.Generator], None] = mutate_a_file
    """writes the first path, damaged, to the second"""


def track_it(*words: str, make_trackers: track.MakeTrackers = make_still) -> Run:
    """Run of the command that tracks; `{damaged}` stands for the damaged input, and `{webm}` for the whole one."""

    def run(damaged: Path, out: Path, whole: dict[str, Path]) -> int:
        return track.main(
            [word.format(damaged=damaged, **whole) for word in words] + ["--output", str(out)], make_trackers
        )

    return run


def evaluate_it(damaged: Path, out: Path, whole: dict[str, Path]) -> int:
    """Evaluate the tracker above on a sequence folder."""
    words = ("--root", damaged, "--output", out, "--workers", "1", "--tracker", f"{__file__}:Still")
    return evaluate.main(list(map(str, words)))


def read_lines(damaged: Path, out: Path, whole: dict[str, Path]) -> int:
    """Read the results of an earlier run."""
    return run_command(lambda: (read_observations(damaged), None)[1])


video = track_it("{damaged}", "--box", seeds.BOX)
pictures = track_it("{damaged}", "--box", seeds.BOX, "--no-video")
checkpoint = track_it(
    "{webm}", "--box", seeds.BOX, "--no-video", "--checkpoint", "{damaged}", make_trackers=load_and_stay
)
KINDS = {
    "mp4": Kind(".mp4", partial(seeds.write_video, codecs=("libx264", "aac")), video),
    "webm": Kind(".webm", partial(seeds.write_video, codecs=("libvpx", "libopus")), video),
    "avi": Kind(".avi", partial(seeds.write_video, codecs=("mpeg4", "pcm_s16le")), video),
    "mp4-both": Kind(
        ".mp4",
        partial(seeds.write_video, codecs=("libx264", "aac")),
        track_it("{damaged}", "--box", seeds.BOX, "--start", "3", "--both"),
    ),
    "jpg": Kind("", partial(seeds.write_pictures, suffix=".jpg"), pictures),
    "png": Kind("", partial(seeds.write_pictures, suffix=".png"), pictures),
    "tiff": Kind(".tiff", seeds.write_animation, pictures),
    "webp": Kind(".webp", seeds.write_animation, pictures),
    "gif": Kind(".gif", seeds.write_animation, pictures),
    "boxes": Kind(".txt", seeds.write_boxes, track_it("{webm}", "--boxes", "{damaged}", "--no-video")),
    "corrections": Kind(
        ".txt",
        seeds.write_boxes,
        track_it("{webm}", "--box", seeds.BOX, "--box", seeds.BOX, "--correct", "{damaged}", "--no-video"),
    ),
    "lines": Kind(".jsonl", seeds.write_lines, read_lines),
    "sequence": Kind("", seeds.write_sequence, track_it("{damaged}", "--no-video")),
    "truth": Kind("", seeds.write_sequence, evaluate_it, partial(mutate_a_file, names="*.txt")),
    "checkpoint": Kind("", seeds.write_tiny_checkpoint, checkpoint),
    "signed manifest": Kind("", seeds.write_tiny_checkpoint, checkpoint, sign_again),
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """An input of each kind that is not damaged."""
    folder = tmp_path_factory.mktemp("whole")
    paths = {kind: folder / f"{kind}{about.suffix}" for kind, about in KINDS.items()}
    for kind, path in paths.items():
        KINDS[kind].make(path)
    return paths


@pytest.fixture(autouse=True)
def stop_what_hangs() -> Iterator[None]:
    """FFmpeg or OpenCV cannot be interrupted from Python: the process ends, and says where it was."""
    faulthandler.dump_traceback_later(60 + CASES * SECONDS / 4, exit=True)
    yield
    faulthandler.cancel_dump_traceback_later()


@pytest.mark.parametrize("kind", KINDS)
def test_damaged_inputs_end_in_a_documented_code(kind, whole, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("roam_jax.evaluation.outputs.can_plot", lambda: False)  # plots take a second each
    about, counts = KINDS[kind], collections.Counter[ExitCode]()
    assert about.run(whole[kind], tmp_path / "out", whole) == ExitCode.SUCCESS, "not damaged"
    for number in range(CASES):
        damaged, out = tmp_path / f"{number}{about.suffix}", tmp_path / f"out{number}"
        about.damage(whole[kind], damaged, np.random.default_rng([zlib.crc32(kind.encode()), number]))
        began = time.perf_counter()
        capsys.readouterr()
        code = ExitCode(about.run(damaged, out, whole))  # what it raises is a traceback for the user
        assert time.perf_counter() - began < SECONDS, damaged
        assert code in EXPECTED, (damaged, code)
        counts[code] += 1
        remove(damaged, out)
    with capsys.disabled():
        if "ROAM_FUZZ" in os.environ:
            print(f"\n{kind}:", ", ".join(f"{count} x {code.name}" for code, count in sorted(counts.items())))
