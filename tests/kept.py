"""Where tests keep what they compile, which is most of their time: beside pytest's cache, which holds it for next time.

`pytest --cache-clear` empties the folder.
"""

from __future__ import annotations

import hashlib
import platform
import time
from pathlib import Path

SECONDS = 14 * 24 * 3600
"""after which a program is removed: it is hardly of the present sources"""


def programs_folder() -> Path:
    """The folder for this processor: what is compiled for its features may run on no other."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    features = sorted({line for line in lines if line.startswith(("model", "flags", "CPU part", "Features"))})
    about = repr((platform.machine(), platform.processor(), features))
    name = f"programs-{hashlib.sha256(about.encode()).hexdigest()[:12]}"
    return Path(__file__).parents[1] / ".pytest_cache" / "d" / name


def remove_old(folder: Path) -> None:
    """Remove the programs that were compiled long ago."""
    for file in folder.glob("*"):
        if file.stat().st_mtime < time.time() - SECONDS:
            file.unlink(missing_ok=True)
