"""A batch as a picture: what meta-training learns from, with its boxes and label maps.

`python -m roam_jax.data.show LAYOUT ROOT FILE.png` draws one.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import cv2
import jax.numpy as jnp
import numpy as np
import tyro
from jaxtyping import Float, UInt8

from roam_jax.cli import parse, run_command
from roam_jax.config import Config, ModelConfig
from roam_jax.core.labels import label_of_box
from roam_jax.data.layouts import Layout, read_layout
from roam_jax.data.pipeline import ClipBatch, make_pipeline
from roam_jax.data.sequences import DataError
from roam_jax.errors import usage_errors
from roam_jax.presets import preset as read_preset

COLUMNS = 10
SMALLEST_TILE = 128
"""pixels; smaller patches are enlarged, so that a caption fits"""
STRIP = 18
"""height of a caption in pixels"""


def draw_sample(
    patch: UInt8[np.ndarray, "p p 3"], box_cxcywh: np.ndarray, visible: bool | np.bool_, label: Float[np.ndarray, "m m"]
) -> UInt8[np.ndarray, "h w 3"]:
    """Patch with its box, white between black so that it is seen on any colour; below it the label map, red on grey.

    Where the object cannot be seen the box has a cross, and there is no label.

    Args:
        patch: RGB.
        box_cxcywh: relative to the patch centre, patch pixels.
        visible: the object can be seen.
        label: label map, which covers the patch.
    """
    factor = -(-SMALLEST_TILE // len(patch))
    framed = np.kron(patch, np.ones((factor, factor, 1), np.uint8))
    side = len(framed)
    low = np.round((box_cxcywh[:2] - box_cxcywh[2:] / 2) * factor + side / 2).astype(int)
    high = np.round((box_cxcywh[:2] + box_cxcywh[2:] / 2) * factor + side / 2).astype(int) - 1
    for out, colour in ((-1, (0, 0, 0)), (1, (0, 0, 0)), (0, (255, 255, 255))):
        cv2.rectangle(framed, (low - out).tolist(), (high + out).tolist(), colour, 1)
    if not visible:
        for colour, width in (((0, 0, 0), 3), ((255, 255, 255), 1)):
            cv2.line(framed, low.tolist(), high.tolist(), colour, width)
            cv2.line(framed, (int(low[0]), int(high[1])), (int(high[0]), int(low[1])), colour, width)
    grey = cv2.cvtColor(cv2.cvtColor(patch, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    grey = 64 + cv2.resize(grey, (side, side), interpolation=cv2.INTER_NEAREST) // 2  # neither black nor white
    strength = cv2.resize(label * np.float32(visible), (side, side), interpolation=cv2.INTER_NEAREST)[..., None]
    labelled = np.round(grey + 0.8 * strength * (np.array([255, 0, 0]) - grey)).astype(np.uint8)
    return np.vstack([framed, labelled])


def draw_batch(batch: ClipBatch, config: Config, path: Path | str) -> None:
    """Write a picture of a batch with captions: each clip in rows of ten, the first-frame samples first.

    Args:
        batch: what to draw.
        config: geometry and sharpness of the label maps.
        path: PNG or JPEG file.

    Raises:
        DataError: the file cannot be written.
    """
    m = config.model
    labels = np.asarray(label_of_box(jnp.asarray(batch.boxes_cxcywh), m.map_size, float(m.stride), config.loss.alpha))
    given = len(config.model.aspects) ** 2
    rows = []
    for number, clip in enumerate(zip(*batch, labels, strict=True), 1):
        tiles = [
            np.vstack([draw_sample(*sample), _caption(f"first {i + 1}" if i < given else f"frame {i - given + 1}", m)])
            for i, sample in enumerate(zip(*clip, strict=True))
        ]
        tiles += [np.zeros_like(tiles[0])] * (-len(tiles) % COLUMNS)
        text = (
            f"clip {number}: {given} samples of the first frame, then frames; "
            "box white, with a cross if not visible; label map red on grey"
        )
        rows.append(_caption(text, m, COLUMNS))
        rows += [np.hstack(tiles[start : start + COLUMNS]) for start in range(0, len(tiles), COLUMNS)]
    sheet = np.vstack(rows)
    try:
        written = cv2.imwrite(str(path), cv2.cvtColor(sheet, cv2.COLOR_RGB2BGR))
    except cv2.error:
        written = False
    if not written:
        raise DataError(f"{path} should be a .png or .jpg file in a folder that exists, but it cannot be written")


def _caption(text: str, model: ModelConfig, tiles: int = 1) -> UInt8[np.ndarray, "h w 3"]:
    """Strip as wide as some tiles, white on black."""
    width = model.patch_size * -(-SMALLEST_TILE // model.patch_size) * tiles
    strip = np.zeros((STRIP, width, 3), np.uint8)
    return cv2.putText(  # type: ignore[return-value]
        strip, text, (3, STRIP - 5), cv2.FONT_HERSHEY_SIMPLEX, 0.45, (255, 255, 255), 1, cv2.LINE_AA
    )


def show(
    layout: Annotated[Layout, tyro.conf.Positional],
    root: Annotated[Path, tyro.conf.Positional],
    file: Annotated[Path, tyro.conf.Positional],
    preset: str = "lite",
    seed: int = 0,
    step: int = 0,
) -> None:
    """Draw one training batch of a data set.

    Exit codes: 0 done, 2 wrong arguments or the extra `train` is not installed, 3 data that cannot be read, or the
    picture cannot be written.

    Args:
        layout: how the folder is laid out; see `python -m roam_jax.data.prepare`, or `prepared`.
        root: the data set's folder.
        file: PNG or JPEG file to write.
        preset: configuration: lite, official, paper or tiny.
        seed: of the pipeline.
        step: which batch.
    """
    with usage_errors(ValueError):
        config = read_preset(preset)
    batches = make_pipeline(read_layout(layout, root), config, seed=seed, start_step=step)
    draw_batch(next(batches), config, file)


def main(args: list[str] | None = None) -> int:
    """The command line; returns its exit code."""
    return run_command(lambda: parse(show, "python -m roam_jax.data.show", args, first="a layout"))


if __name__ == "__main__":
    sys.exit(main())
