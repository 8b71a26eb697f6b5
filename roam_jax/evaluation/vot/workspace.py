"""Workspace of the VOT toolkit with this package's tracker in it: `python -m roam_jax.evaluate --vot-init DIR`."""

from __future__ import annotations

import json
import os
import re
import shlex
import sys
from collections.abc import Sequence as ListOf
from pathlib import Path

from roam_jax.evaluation.vot.metrics import SENSITIVITY, eao_interval
from roam_jax.evaluation.vot.protocol import EXPERIMENT, SKIP

STACKS = {
    "vot2013": "vot2013",
    "vot2014": "vot2014",
    "vot2015": "vot2015/rgb",
    "vot2016": "vot2016/rgb",
    "vot2017": "vot2017",
    "vot2018": "vot2018/shortterm",
    "vot2019": "vot2019/shortterm",
}
"""the toolkit's own name for the experiments of a data set"""
TIMEOUT = 300
"""seconds until the toolkit gives up waiting: the first frame waits for the compiler"""


def write_vot_workspace(
    folder: Path,
    *,
    dataset: str = "",
    root: Path | None = None,
    lengths: ListOf[int] = (),
    name: str = "ROAM_JAX",
    tracker: str = "roam",
    checkpoint: str = "lite",
    nano_dir: Path | None = None,
    command: ListOf[str] | None = None,
) -> list[Path]:
    """Write what the toolkit's commands need: `trackers.ini`, `config.yaml`, and `stack.yaml` for own data.

    Then, in the folder: `vot test ROAM_JAX`, `vot evaluate --workspace . ROAM_JAX`, `vot analysis --workspace .
    ROAM_JAX`. Files that are there already are left as they are, as are sequences and results.

    Args:
        folder: the workspace; made if need be.
        dataset: one of `STACKS`, whose experiments and data the toolkit knows, and downloads if `root` is not given;
            otherwise `stack.yaml` is written, with the supervised experiment of VOT-2016 to 2018.
        root: where the sequences lie, each in its folder, and `list.txt` with their names; by default `sequences` in
            the workspace.
        lengths: of the sequences of own data: the interval of the EAO follows from them. Without, there is no EAO.
        name: of the tracker in the toolkit: letters, digits, `-` and `_`.
        tracker: as `make_tracker`.
        checkpoint: of the tracker `roam`: a name, or a directory.
        nano_dir: of the tracker `cv2:nano`.
        command: starts the tracker instead of this Python's `-m roam_jax.evaluation.vot`.

    Returns:
        The files that were written.

    Raises:
        ValueError: a name that the toolkit does not take.
        OSError: a file cannot be written.
    """
    if not re.fullmatch(r"[a-zA-Z0-9_-]+", name):
        raise ValueError(f"the name of a tracker for VOT should be of letters, digits, - and _, but is {name!r}")
    folder.mkdir(parents=True, exist_ok=True)
    if command is None:
        place = os.path.abspath(checkpoint) if Path(checkpoint).is_dir() else checkpoint
        command = [sys.executable, "-m", "roam_jax.evaluation.vot", "--tracker", tracker, "--checkpoint", place]
        command += ["--nano-dir", os.path.abspath(nano_dir)] if nano_dir else []
    stack = STACKS.get(dataset, "stack.yaml")
    files = {"trackers.ini": _trackers_ini(name, command), "config.yaml": _config_yaml(stack, root)}
    if dataset not in STACKS:
        files["stack.yaml"] = _stack_yaml(lengths)
    written = [folder / file for file in files if not (folder / file).exists()]
    for path in written:
        path.write_text(files[path.name], encoding="utf-8")
    (folder / "results").mkdir(exist_ok=True)
    if root is None:
        (folder / "sequences").mkdir(exist_ok=True)
    return written


def _trackers_ini(name: str, command: ListOf[str]) -> str:
    content = {"label": name, "protocol": "trax", "command": shlex.join(command), "timeout": str(TIMEOUT)}
    # the toolkit reads the file with ConfigParser, to which % is special
    return f"[{name}]\n" + "".join(f"{key} = {value.replace('%', '%%')}\n" for key, value in content.items())


def _config_yaml(stack: str, root: Path | None) -> str:
    """JSON's strings are YAML's, with whatever is in a path."""
    sequences = "sequences" if root is None else os.path.abspath(root)
    return (
        f"registry:\n- {json.dumps('./trackers.ini')}\nstack: {json.dumps(stack)}\nsequences: {json.dumps(sequences)}\n"
    )


def _stack_yaml(lengths: ListOf[int]) -> str:
    lines = [
        'title: "Supervised experiment of VOT-2016 to 2018 on own sequences"',
        "experiments:",
        f"  {EXPERIMENT}:",
        "    type: supervised",
        "    repetitions: 15",
        f"    skip_initialize: {SKIP}",
        "    analyses:",
        "    - type: supervised_average_ar",
        f"      sensitivity: {SENSITIVITY}",
        "    - type: cumulative_failures",
    ]
    if lengths:
        low, high = eao_interval(lengths)
        lines += ["    - type: supervised_eao_score", f"      low: {low}", f"      high: {high}"]
        lines += ["    - type: supervised_eao_curve"]
    return "\n".join(lines) + "\n"
