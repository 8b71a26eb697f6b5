"""What the damaged inputs are made of: one small whole input of each kind that the commands read."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import cv2
import jax
import numpy as np

from roam_jax import presets
from roam_jax.checkpoints import Checkpoint, save_checkpoint
from roam_jax.tracking.params import init_params, params_to_dict
from roam_jax.video.formats import Observation, format_observation

SIZE_HW = (48, 64)
FRAMES = 6
BOX = "10,8,20,16"


def make_frames() -> list[np.ndarray]:
    """Waves that move."""
    rows, columns = np.mgrid[: SIZE_HW[0], : SIZE_HW[1]]
    waves = [np.stack([rows + 9 * i, columns - 5 * i, rows + columns], axis=-1) / 25 for i in range(FRAMES)]
    return [(127 + 100 * np.sin(wave)).astype(np.uint8) for wave in waves]


def write_video(path: Path, codecs: tuple[str, str]) -> None:
    """A video with a title, which no reader asks for, and a tone."""
    sound_rate = 48000
    with av.open(str(path), "w") as container:
        container.metadata["title"] = "Wäsche im Wind"
        video = container.add_stream(codecs[0], rate=Fraction(25))
        video.height, video.width = SIZE_HW
        video.pix_fmt = "yuv420p"
        audio = container.add_stream(codecs[1], rate=sound_rate)
        audio.layout = "mono"
        for image in make_frames():
            container.mux(video.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(video.encode(None))
        tone = np.sin(np.arange(sound_rate // 4) / 9).astype(np.float32)[None]
        heard = av.AudioFrame.from_ndarray(tone, format="fltp", layout="mono")
        heard.sample_rate, heard.pts = sound_rate, 0
        kind = audio.format.name
        for frame in av.AudioResampler(format=kind, layout="mono", rate=sound_rate).resample(heard):
            container.mux(audio.encode(frame))
        container.mux(audio.encode(None))


def write_pictures(folder: Path, suffix: str) -> None:
    """Three pictures."""
    folder.mkdir()
    for number, image in enumerate(make_frames()[:3]):
        assert cv2.imwrite(str(folder / f"{number}{suffix}"), image)


def write_animation(path: Path) -> None:
    """A file of several pictures, of any kind that OpenCV writes."""
    images = make_frames()
    if path.suffix == ".tiff":
        assert cv2.imwritemulti(str(path), images)
    else:
        animation = cv2.Animation()
        animation.frames, animation.durations = images, np.full(FRAMES, 40, np.int32)
        assert cv2.imwriteanimation(str(path), animation)


def write_sequence(folder: Path) -> None:
    """Folder in the layout of OTB."""
    folder.mkdir()
    write_pictures(folder / "img", ".jpg")
    (folder / "groundtruth_rect.txt").write_text("".join(f"{11 + i},9,20,16\n" for i in range(3)))


def write_tiny_checkpoint(folder: Path) -> None:
    """Of the preset tiny."""
    params = jax.jit(lambda key: init_params(presets.tiny(), key=key))(jax.random.key(0))
    save_checkpoint(folder, Checkpoint(presets.tiny(), params_to_dict(params), "for tests"))


def write_boxes(path: Path) -> None:
    """Lines of a file for --boxes and for --correct."""
    path.write_text("2,10,8,20,16\n3,12.5,9,20,16\n")


def write_lines(path: Path) -> None:
    """A `track.jsonl`."""
    said = [Observation(i, 0, np.array([10, 8, 20, 16], np.float32), 1.0, False, 0.01, i / 25) for i in range(FRAMES)]
    path.write_text("".join(format_observation(each) + "\n" for each in said), encoding="utf-8")
