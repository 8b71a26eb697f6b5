"""A tracker that has started, on disk: it goes on where it was, in another process, bitwise alike.

The directory is that of a checkpoint, digests included, with the state beside the parameters.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np
from jaxtyping import Float

from roam_jax.checkpoints import Checkpoint, CheckpointError, load_tree, save_tree
from roam_jax.config import Config
from roam_jax.tracking.online import Online, TrackerState
from roam_jax.tracking.params import Params, params_of, params_to_dict
from roam_jax.tracking.programs import Shapes, parts_of
from roam_jax.typed import parse


@dataclass(frozen=True)
class Saved:
    """What is known of a tracker besides its arrays."""

    config: Config
    crop: Literal["host", "device"]
    image_shape: tuple[int, int, int]
    score: float
    lost: bool


def save_state(
    directory: str | Path, about: Saved, params: Params, state: TrackerState, box_xywh: Float[np.ndarray, "4"]
) -> None:
    """Write everything that a tracker needs to go on; a tracker that is already there is replaced.

    Raises:
        CheckpointError: the directory holds something else.
    """
    metadata = {
        "tracker": {
            "config": about.config.to_dict(),
            "crop": about.crop,
            "image_shape": list(about.image_shape),
            "score": about.score,
            "lost": about.lost,
        }
    }
    tree = jax.device_get({"params": params_to_dict(params), "state": state, "box_xywh": box_xywh})
    save_tree(directory, tree, metadata=metadata)


def load_state(directory: str | Path) -> tuple[Saved, Checkpoint, TrackerState, Float[np.ndarray, "4"]]:
    """Read what `save_state` wrote; the arrays are numpy's.

    Raises:
        CheckpointError: nothing there, damaged, or not a tracker that was saved.
    """
    tree, metadata = load_tree(directory)
    try:
        about = parse(Saved, metadata["tracker"])
        about.config.check()
        checkpoint = Checkpoint(about.config, tree["params"], "")
        state = _fill(_state_like(about, checkpoint), tree["state"])
        return about, checkpoint, state, tree["box_xywh"]
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{directory} holds no tracker that `Tracker.save` wrote: {error}") from error


def _state_like(about: Saved, checkpoint: Checkpoint) -> Any:
    """The state with shapes and types for leaves."""
    params = Shapes.of(params_of(checkpoint, about.config)).tree()
    image_shape = about.image_shape if about.crop == "device" else None
    start, arguments = dict(parts_of(Online(about.config), params, image_shape))["start"]
    return jax.eval_shape(start, *arguments)


def _fill(like: Any, nested: Any) -> Any:
    """The pytree `like` with the arrays of nested dictionaries.

    Raises:
        KeyError, TypeError: a part is missing.
        ValueError: a part has another shape or type.
    """

    def leaf(path: tuple[Any, ...], expected: Any) -> np.ndarray:
        value = nested
        for part in path:
            value = value[jax.tree_util.keystr((part,), simple=True)]
        if (value.shape, value.dtype) != (expected.shape, expected.dtype):
            raise ValueError(f"state{jax.tree_util.keystr(path)} is {value.dtype} of shape {value.shape}")
        return value

    return jax.tree_util.tree_map_with_path(leaf, like)
