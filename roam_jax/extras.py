"""Packages that only some commands need: the extras of the installation."""

from __future__ import annotations

import importlib

from roam_jax.errors import UsageError

EXTRAS = {
    "array_record": "train",
    "grain": "train",
    "tensorboardX": "train",
    "tensorflow_datasets": "train",
    "matplotlib": "plots",
    "gradio": "app",
    "gradio_image_annotation": "app",
    "IPython": "notebook",
    "pandas": "notebook",
    "anywidget": "notebook",
    "trax": "vot",
}
"""the extra that installs a package, by the package's name in `import`"""


class MissingExtra(UsageError, ImportError):
    """A package of an extra is not installed; the message is one sentence and says what to type."""


def require(package: str) -> None:
    """Return if a package of an extra can be imported.

    Args:
        package: a name in `EXTRAS`.

    Raises:
        MissingExtra: it cannot.
    """
    try:
        importlib.import_module(package)
    except ImportError as error:
        reason = "is not installed" if error.name == package else f"cannot be imported ({error})"
        raise MissingExtra(
            f"this needs the package {package}, which {reason}: pip install 'roam-jax[{EXTRAS[package]}]'"
        ) from error
