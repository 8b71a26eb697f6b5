from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from roam_jax.checkpoints import save_tree, store


@pytest.fixture
def write_old(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """`save_tree` with the number of an older version, whose trees and settings were others; returns the folder."""

    def write(folder: Path, tree: Any, metadata: dict[str, Any], version: int = 1, **options: Any) -> Path:
        with monkeypatch.context() as patch:
            patch.setattr(store, "VERSION", version)
            save_tree(folder, tree, metadata=metadata, **options)
        return folder

    return write
