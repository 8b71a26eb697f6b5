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

from roam_jax.config import Config
from roam_jax.core.labels import label_of_box
from roam_jax.data.layouts import Layout, read_layout
from roam_jax.data.pipeline import ClipBatch, make_pipeline
from roam_jax.data.sequences import DataError
from roam_jax.extras import MissingExtra

COLUMNS = 10
EXIT_CODES = {MissingExtra: 2, ValueError: 2, DataError: 3}
BOX_RGB = (0, 255, 0)


def draw_sample(
    patch: UInt8[np.ndarray, "p p 3"], box_cxcywh: np.ndarray, label: Float[np.ndarray, "m m"]
) -> UInt8[np.ndarray, "p p 3"]:
    """Patch with its box, and its label map laid over it in red.

    Args:
        patch: RGB.
        box_cxcywh: relative to the patch centre, patch pixels.
        label: label map, which covers the patch.
    """
    side = len(patch)
    strength = cv2.resize(label, (side, side), interpolation=cv2.INTER_NEAREST)[..., None]
    picture = np.round(patch + 0.6 * strength * (np.array([255, 0, 0]) - patch)).astype(np.uint8)
    low = np.round(box_cxcywh[:2] - box_cxcywh[2:] / 2 + side / 2).astype(int)
    high = np.round(box_cxcywh[:2] + box_cxcywh[2:] / 2 + side / 2).astype(int) - 1
    return cv2.rectangle(picture, low.tolist(), high.tolist(), BOX_RGB, 1)  # type: ignore[return-value]


def draw_batch(batch: ClipBatch, config: Config, path: Path | str) -> None:
    """Write a picture of a batch: each clip in rows of ten, the first-frame samples first.

    Args:
        batch: what to draw.
        config: geometry and sharpness of the label maps.
        path: PNG or JPEG file.

    Raises:
        DataError: the file cannot be written.
    """
    m = config.model
    labels = np.asarray(label_of_box(jnp.asarray(batch.boxes_cxcywh), m.map_size, float(m.stride), config.loss.alpha))
    rows = []
    for clip in zip(*batch, labels, strict=True):
        pictures = [draw_sample(*sample) for sample in zip(*clip, strict=True)]
        pictures += [np.zeros_like(pictures[0])] * (-len(pictures) % COLUMNS)
        rows += [np.hstack(pictures[start : start + COLUMNS]) for start in range(0, len(pictures), COLUMNS)]
        rows.append(np.zeros((4, *rows[-1].shape[1:]), np.uint8))
    sheet = np.vstack(rows)
    try:
        written = cv2.imwrite(str(path), cv2.cvtColor(sheet, cv2.COLOR_RGB2BGR))
    except cv2.error:
        written = False
    if not written:
        raise DataError(f"{path} should be a .png or .jpg file in a folder that exists, but it cannot be written")


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
    config = Config.preset(preset)
    batches = make_pipeline(read_layout(layout, root), config, seed=seed, start_step=step)
    draw_batch(next(batches), config, file)


def main(args: list[str] | None = None) -> int:
    """The command line; returns its exit code."""
    try:
        tyro.cli(show, prog="python -m roam_jax.data.show", args=args)
    except tuple(EXIT_CODES) as error:
        print(error, file=sys.stderr)
        return next(code for kind, code in EXIT_CODES.items() if isinstance(error, kind))
    return 0


if __name__ == "__main__":
    sys.exit(main())
