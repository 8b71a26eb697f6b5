"""Boxes to start from, and the window in which a user draws one or watches the tracker, if there can be one."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from enum import Enum
from pathlib import Path

import cv2
import numpy as np

from roam_jax.errors import DisplayError, InputError, UsageError
from roam_jax.pictures import Image
from roam_jax.video.draw import COLOURS, draw_box, line_width
from roam_jax.video.formats import Box, Given, check_box, parse_box, read_starts
from roam_jax.video.source import FrameSource

TITLE = "draw a box around the object, then press Enter"
ACCEPT = (10, 13, ord(" "))
CANCEL = (ord("q"), 27)
NO_KEY = 255


def first_boxes(
    source: FrameSource, texts: Sequence[str], files: Sequence[Path], *, one_based: bool = False
) -> list[Given]:
    """The boxes that objects are tracked from: those given, or the one beside the frames, or one that the user draws.

    Args:
        source: the frames.
        texts: x,y,w,h of each object.
        files: text files as `read_starts` reads them.
        one_based: texts and files count pixels from 1.

    Returns:
        A box for each object.

    Raises:
        UsageError: a box cannot be read, or no tracker can start from it.
        DisplayError: there is no box and no display.
        InputError: the first frame cannot be read.
    """
    if texts and files:
        raise UsageError("give either --box or --boxes")
    if texts:
        starts = [Given(None, target, parse_box(text, one_based=one_based)) for target, text in enumerate(texts)]
    elif files:
        try:
            read = [each for path in files for each in read_starts(path, one_based=one_based)]
        except InputError as error:
            raise UsageError(str(error)) from error
        starts = [replace(each, target=target) for target, each in enumerate(read)]
    else:
        first = next(source.timed())
        drawn = select_box(first.image) if source.groundtruth_xywh is None else box_beside(source, first.number)
        starts = [Given(None, 0, drawn)]
    for each in starts:
        check_box(each.box_xywh, source.size_hw)
    return starts


def box_beside(source: FrameSource, number: int) -> Box:
    """The box beside the frame of that number.

    Raises:
        UsageError: there is none.
    """
    box = source.true_box(number)
    if box is None:
        raise UsageError(f"{source.name} has no box for frame {number}: start at another one, or give the box as --box")
    return box


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
        UsageError: the user drew nothing, or closed the window.
    """
    require_display("draw the box with the mouse (or give it as --box x,y,w,h)")
    height, width = image.shape[:2]
    corners = np.zeros((2, 2), np.float32)

    def drag(event: int, x: int, y: int, flags: int, _: object) -> None:
        if event == cv2.EVENT_LBUTTONDOWN:
            corners[:] = np.clip((x, y), 0, (width, height))
        elif event == cv2.EVENT_LBUTTONUP or flags & cv2.EVENT_FLAG_LBUTTON:
            corners[1] = np.clip((x, y), 0, (width, height))

    def drawn() -> Box:
        return np.concatenate([corners.min(0), np.ptp(corners, 0)])

    _open_window(TITLE, image)
    cv2.setMouseCallback(TITLE, drag)
    key: int | None = NO_KEY
    while key not in (*ACCEPT, *CANCEL, None):
        canvas = image.copy()
        draw_box(canvas, drawn(), COLOURS[0], line_width(image))
        cv2.imshow(TITLE, cv2.cvtColor(canvas, cv2.COLOR_RGB2BGR))
        key = _wait_key(TITLE, 20)
    if key is not None:
        cv2.destroyWindow(TITLE)
    if key not in ACCEPT or drawn()[2:].min() <= 0:
        raise UsageError("no box was drawn")
    return drawn()


class Wish(Enum):
    """What the user who watches wants next."""

    GO_ON = 0
    END = 1
    DRAW = 2
    """the boxes again, on the frame that is shown"""


def show_frame(image: Image, title: str = "roam_jax: r draws the box again, q or Esc ends") -> Wish:
    """Show an RGB frame; closing the window ends too."""
    if not _is_visible(title):
        _open_window(title, image)
    cv2.imshow(title, cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    key = _wait_key(title, 1)
    if key in (*CANCEL, None):
        return Wish.END
    return Wish.DRAW if key == ord("r") else Wish.GO_ON


def _open_window(title: str, image: Image) -> None:
    """A window of the image's shape that fits on a screen, and has nothing in it but the image."""
    # Qt's toolbar would shrink the image, and complain that OpenCV's wheels bring no fonts for it.
    cv2.namedWindow(title, cv2.WINDOW_NORMAL | cv2.WINDOW_KEEPRATIO | cv2.WINDOW_GUI_NORMAL)
    height, width = image.shape[:2]
    scale = min(1.0, 1280 / width, 720 / height)
    cv2.resizeWindow(title, round(width * scale), round(height * scale))


def _wait_key(title: str, milliseconds: int) -> int | None:
    """Key that the user presses in that time, or `NO_KEY`; None if the window is closed."""
    visible = _is_visible(title)  # never where OpenCV's windows cannot tell
    key = cv2.waitKey(milliseconds) & 0xFF
    return None if visible and not _is_visible(title) else key


def _is_visible(title: str) -> bool:
    try:
        return cv2.getWindowProperty(title, cv2.WND_PROP_VISIBLE) >= 1
    except cv2.error:  # Qt, when no window is left
        return False
