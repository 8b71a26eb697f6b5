"""The window in which a user draws a box or watches the tracker, and how to find out that there is none."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import cv2
import numpy as np

from roam_jax.video.errors import DisplayError, UsageError
from roam_jax.video.formats import Box, Image

TITLE = "draw a box around the object, then press Enter"


def require_display(purpose: str) -> None:
    """Return if a window can be opened.

    OpenCV ends the whole process when it cannot open one, so a child process tries it first.

    Args:
        purpose: what the window is for, to complete "a window is needed to ...".

    Raises:
        DisplayError: OpenCV has no windows here, or there is no screen to show them on.
    """
    need = f"a window is needed to {purpose}, but"
    if re.search(r"GUI:\s*NONE", cv2.getBuildInformation()):
        raise DisplayError(f"{need} this OpenCV was built without windows: install opencv-python, not the headless one")
    if sys.platform.startswith("linux") and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        raise DisplayError(f"{need} there is no display here (neither DISPLAY nor WAYLAND_DISPLAY is set)")
    trial = "import cv2; cv2.namedWindow('roam_jax'); cv2.waitKey(1); cv2.destroyAllWindows()"
    try:
        opened = subprocess.run([sys.executable, "-c", trial], capture_output=True, timeout=30).returncode == 0
    except subprocess.TimeoutExpired:
        opened = False
    if not opened:
        raise DisplayError(f"{need} the display does not open one")


def select_box(image: Image) -> Box:
    """Box that the user draws with the mouse on an RGB image; xywh, 0-based image pixels.

    Raises:
        DisplayError: no window can be opened.
        UsageError: the user drew nothing.
    """
    require_display("draw the box with the mouse (or give it as --box x,y,w,h)")
    cv2.namedWindow(TITLE, cv2.WINDOW_NORMAL | cv2.WINDOW_KEEPRATIO)
    height, width = image.shape[:2]
    shrink = min(1.0, 1280 / width, 720 / height)
    cv2.resizeWindow(TITLE, round(width * shrink), round(height * shrink))
    try:
        box = cv2.selectROI(TITLE, cv2.cvtColor(image, cv2.COLOR_RGB2BGR), showCrosshair=False, printNotice=False)
    finally:
        cv2.destroyWindow(TITLE)
    if min(box[2:]) <= 0:
        raise UsageError("no box was drawn")
    return np.asarray(box, np.float32)


def show_frame(image: Image, title: str = "roam_jax: q or Esc ends") -> bool:
    """Show an RGB frame; False if the user wants no more of them."""
    cv2.imshow(title, cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    return cv2.waitKey(1) & 0xFF not in (ord("q"), 27)
