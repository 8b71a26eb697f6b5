"""`python -m roam_jax.checkpoints.convert OLD NEW`: a checkpoint or run folder of an older version in today's form.

Arrays and settings get their new names; the arrays are bitwise those of OLD, which is left as it is. Where steps are
implicit, the optimizer is shown the paper's response loss from now on, which these steps minimise.
"""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
import sys
from pathlib import Path
from typing import Annotated, Any

import tyro

from roam_jax.checkpoints.manifest import MANIFEST, OLDER, CheckpointError
from roam_jax.checkpoints.store import nest, read_leaves, save_tree
from roam_jax.checkpoints.tracker import CARD
from roam_jax.cli import ExitCode, parse, run_command
from roam_jax.config import POSITIVE, Config
from roam_jax.errors import OutputError, UsageError

PARTS = ("trunk", "top", "stats", "neck", "theta0", "lambda0", "omega")
"""of a tracker's parameters"""
PATHS = (
    (re.compile(r"(^|/)meta/(theta0|lambda0|omega)(?=/|$)"), r"\1\2"),
    (re.compile(r"(^|/)(backbone/)?neck/(top|stats)(?=/|$)"), r"\1\3"),
    (re.compile(r"(^|/)backbone/(trunk|neck)(?=/|$)"), r"\1\2"),
)
"""what became of the arrays' paths"""
NO_META = {"model_clip": 10.0, "optimizer_clip": 1.0, "neck_clip": 1.0, "halve_every": 5, "final_rate": 0.02}
NO_MORE = {
    "loss": {"peak_sharpness": 20.0},
    "optimizer": {"first_steps": 1, "gradient_p": 10.0},
    "online": {"refinements": 0, "loose_factor": 2.0, "recover_score": 0.6, "scales": [0.96, 1.0, 1.04]},
    "train": NO_META,
    "meta": NO_META,
}
"""settings that are no more, with the only value that they may have had"""


def convert_config(old: Any) -> Config:
    """The configuration of an older version, section by section.

    Raises:
        ValueError: it has a setting that is no more, or is none.
    """
    try:
        old = {section: dict(values) for section, values in old.items()}
    except (AttributeError, TypeError, ValueError) as error:
        raise ValueError("there are no settings by section") from error
    for section, fields in NO_MORE.items():
        for name, value in fields.items():
            if (was := old.get(section, {}).pop(name, value)) != value:
                raise ValueError(f"{section}.{name} {was} is no more")
    new: dict[str, dict[str, Any]] = {name: old.pop(name, {}) for name in ("backbone", "model", "loss", "online")}
    new["optimizer"] = {k: v for k, v in old.get("optimizer", {}).items() if not k.startswith("implicit_")}
    new["implicit"] = {
        k.removeprefix("implicit_"): v for k, v in old.pop("optimizer", {}).items() if k.startswith("implicit_")
    }
    if new["implicit"].get("iterations"):
        new["loss"]["response_form"] = "paper"  # what an implicit step minimised, whatever the optimizer was shown
        new["implicit"].setdefault("largest_rate", POSITIVE.high)  # rates had no limit
    if "aspects" in new["online"]:
        new["model"]["aspects"] = new["online"].pop("aspects")
    train = old.pop("train", {})
    for section in ("clips", "unroll", "meta", "run"):
        fields = {field.name for field in dataclasses.fields(Config.__dataclass_fields__[section].default_factory)}  # type: ignore[arg-type]
        new[section] = {name: train.pop(name) for name in sorted(fields & train.keys())}
    return Config.from_dict({**new, **old, **({"train": train} if train else {})})


def convert_checkpoint(old: Path, new: Path) -> None:
    """A tracker, or a checkpoint that training goes on from.

    Raises:
        CheckpointError: it cannot be read or written.
    """
    manifest, leaves = read_leaves(old, OLDER)
    tree = nest(old, {_rename(key): leaf for key, leaf in leaves.items()}, map(_rename, manifest.empty))
    metadata = dict(manifest.metadata)
    if "config" in metadata:
        try:
            metadata["config"] = convert_config(metadata["config"]).to_dict()
        except ValueError as error:
            raise CheckpointError(f"{old} cannot be converted: {error}") from error
        absent = {"trunk"} if "trunk_reference" in metadata else set()
        tree = {**{part: {} for part in PARTS if part not in absent}, **tree}
    half = any(leaf.dtype != leaf.load_as for leaf in manifest.leaves.values())
    card = old / CARD
    texts = {CARD: card.read_text("utf-8")} if card.is_file() else {}
    save_tree(new, tree, metadata=metadata, half=half, texts=texts)


def convert_run(old: Path, new: Path) -> None:
    """A run folder of `roam_jax.train`, with all its checkpoints; those that it has put out of the way are copied.

    Raises:
        CheckpointError: a part cannot be read or written.
    """
    inner = {path.parent for path in old.glob(f"**/{MANIFEST}") if "." not in path.parent.name}
    try:
        config = convert_config(json.loads((old / "config.json").read_text("utf-8")))
    except ValueError as error:
        raise CheckpointError(f"{old / 'config.json'} cannot be converted: {error}") from error
    shutil.copytree(old, new, ignore=lambda folder, names: [name for name in names if Path(folder, name) in inner])
    for path in sorted(inner):
        convert_checkpoint(path, new / path.relative_to(old))
    (new / "config.json").write_text(json.dumps(config.to_dict(), indent=1) + "\n", "utf-8")


def _rename(path: str) -> str:
    for pattern, to in PATHS:
        path = pattern.sub(to, path)
    return path


def main(argv: list[str] | None = None) -> int:
    """The command line; returns its exit code."""
    return run_command(lambda: parse(run, "python -m roam_jax.checkpoints.convert", argv, first="the old folder"))


def run(
    old: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="OLD")],
    new: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="NEW")],
) -> ExitCode:
    """Convert an older checkpoint, or the folder of a training run, to the present form.

    Exit codes: 0 done, 2 wrong arguments, or there is something of the new name; 5 the old one cannot be read, or has
    settings that are no more; 6 the new one cannot be written. What is not complete is removed.

    Args:
        old: checkpoint or run folder, which stays as it is.
        new: folder to write.

    Raises:
        UsageError: there is something of the new name.
        CheckpointError: the old one cannot be read, or has settings that are no more.
        OutputError: the new one cannot be written.
    """
    if new.exists():
        raise UsageError(f"{new} is there already: name a folder that is not")
    try:
        (convert_run if (old / "config.json").is_file() else convert_checkpoint)(old, new)
    except (CheckpointError, OSError) as error:
        shutil.rmtree(new, ignore_errors=True)
        if isinstance(error, OSError):
            raise OutputError(f"{new} cannot be written: {error}") from error
        raise
    print(f"wrote {new}")
    return ExitCode.SUCCESS


if __name__ == "__main__":
    sys.exit(main())
