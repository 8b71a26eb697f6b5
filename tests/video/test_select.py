from __future__ import annotations

import subprocess
import sys

import cv2
import numpy as np
import pytest

from roam_jax.errors import DisplayError, UsageError
from roam_jax.video import select
from roam_jax.video.select import Wish


class Windows:
    """OpenCV's windows with a user: each wait is the next of `deeds`, a key, "close", or what the mouse does."""

    def __init__(self, tells: bool = True) -> None:
        self.deeds, self.open, self.shown, self.flags, self.tells = [], set(), [], 0, tells
        self.mouse = None

    def namedWindow(self, title, flags):
        self.open.add(title)
        self.flags = flags

    def imshow(self, title, image):
        self.open.add(title)  # as OpenCV does
        self.shown.append(image)

    def waitKey(self, milliseconds):
        deed = self.deeds.pop(0)
        if deed == "close":
            self.open.clear()
        elif isinstance(deed, tuple):
            self.mouse(*deed, None)
        return deed if isinstance(deed, int) else -1

    def getWindowProperty(self, title, which):
        assert which == cv2.WND_PROP_VISIBLE
        if not self.tells:
            return -1.0
        if not self.open:
            raise cv2.error("NULL guiReceiver")
        return float(title in self.open)

    def setMouseCallback(self, title, function):
        assert title in self.open
        self.mouse = function

    def destroyWindow(self, title):
        self.open.remove(title)

    def resizeWindow(self, title, width, height):
        self.size = (width, height)


@pytest.fixture(params=[True, False], ids=["tells", "cannot tell"])
def windows(monkeypatch, request):
    """As if there were a screen; OpenCV's windows may not tell whether they are there."""
    fake = Windows(request.param)
    monkeypatch.setenv("DISPLAY", ":0")
    monkeypatch.setattr(select.cv2, "getBuildInformation", lambda: "  GUI:   QT5")
    monkeypatch.setattr(select.subprocess, "run", lambda *_, **__: subprocess.CompletedProcess([], 0))
    for name in [name for name in dir(Windows) if not name.startswith("_")]:
        monkeypatch.setattr(cv2, name, getattr(fake, name))
    return fake


def test_without_a_display_there_is_one_sentence(monkeypatch):
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    monkeypatch.setattr(select.sys, "platform", "linux")
    monkeypatch.setattr(select.cv2, "getBuildInformation", lambda: "  GUI:   QT5")
    with pytest.raises(DisplayError, match=r"--box x,y,w,h.*no display"):
        select.select_box(np.zeros((8, 8, 3), np.uint8))


def test_an_opencv_without_windows_is_named(monkeypatch):
    monkeypatch.setattr(select.cv2, "getBuildInformation", lambda: "  GUI:                           NONE\n")
    with pytest.raises(DisplayError, match="headless"):
        select.require_display("test this")


def test_a_display_that_does_not_answer_does_not_end_the_process(monkeypatch):
    monkeypatch.setenv("DISPLAY", ":987")
    monkeypatch.setattr(select.cv2, "getBuildInformation", lambda: "  GUI:   QT5")
    with pytest.raises(DisplayError, match="does not open one"):
        select.require_display("test this")


IMAGE = np.zeros((48, 64, 3), np.uint8)
DOWN, MOVE, UP, HELD = cv2.EVENT_LBUTTONDOWN, cv2.EVENT_MOUSEMOVE, cv2.EVENT_LBUTTONUP, cv2.EVENT_FLAG_LBUTTON
DRAG = [(MOVE, 40, 40, 0), (DOWN, 13, 4, HELD), (MOVE, 5, 10, HELD), (UP, 3, 16, 0), (MOVE, 1, 1, 0)]
ENTER, ESCAPE, OTHER = 13, 27, ord("x")


def test_the_box_that_is_drawn_comes_back(windows):
    windows.deeds = [OTHER, *DRAG, ENTER]
    np.testing.assert_array_equal(select.select_box(IMAGE), [3, 4, 10, 12])
    assert not windows.open
    outline = cv2.cvtColor(windows.shown[-1], cv2.COLOR_BGR2GRAY)[4:16, 8]
    assert outline[0] > 0
    assert outline[6] == 0, "the box is outlined while it is drawn"
    assert not IMAGE.any()


def test_the_last_box_counts_and_none_reaches_beyond_the_image(windows):
    windows.deeds = [*DRAG, (DOWN, 50, 40, HELD), (MOVE, 99, 60, HELD), (UP, 99, 60, 0), ord(" ")]
    np.testing.assert_array_equal(select.select_box(IMAGE), [50, 40, 14, 8])


@pytest.mark.parametrize("deeds", [[ENTER], [*DRAG, ESCAPE], [*DRAG, ord("q")], [*DRAG[:2], ENTER]])
def test_drawing_nothing_is_an_error(windows, deeds):
    windows.deeds = list(deeds)
    with pytest.raises(UsageError, match="no box was drawn"):
        select.select_box(IMAGE)
    assert not windows.open


@pytest.mark.parametrize("windows", [True], indirect=True)
def test_closing_the_window_is_drawing_nothing(windows):
    windows.deeds = [*DRAG, "close", ENTER]
    with pytest.raises(UsageError, match="no box was drawn"):
        select.select_box(IMAGE)
    assert windows.deeds == [ENTER]
    assert not windows.open, "and it does not come back"


@pytest.mark.parametrize(
    ("deed", "wish"),
    [(OTHER, Wish.GO_ON), (-1, Wish.GO_ON), (ESCAPE, Wish.END), (ord("q"), Wish.END), (ord("r"), Wish.DRAW)],
)
def test_what_the_keys_mean_while_frames_are_shown(windows, deed, wish):
    windows.deeds = [-1, deed]
    assert select.show_frame(IMAGE) is Wish.GO_ON
    assert select.show_frame(IMAGE) is wish


@pytest.mark.parametrize("windows", [True], indirect=True)
def test_closing_the_window_ends_the_frames_that_are_shown(windows):
    windows.deeds = [-1, "close"]
    assert select.show_frame(IMAGE) is Wish.GO_ON
    assert select.show_frame(IMAGE) is Wish.END


@pytest.mark.parametrize(("size_hw", "window"), [((48, 64), (64, 48)), ((2160, 3840), (1280, 720))])
def test_the_image_is_whole_and_alone_in_the_window(windows, size_hw, window):
    windows.deeds = [-1]
    select.show_frame(np.zeros((*size_hw, 3), np.uint8))
    assert windows.size == window
    assert windows.flags & cv2.WINDOW_GUI_NORMAL


def test_a_real_window_is_quiet_and_has_the_size_of_the_image():
    try:
        select.require_display("test this")
    except DisplayError as error:
        pytest.skip(str(error))
    program = """
import cv2, numpy as np
from roam_jax.video.select import Wish, show_frame
for _ in range(5):
    assert show_frame(np.zeros((300, 400, 3), np.uint8), "a") is Wish.GO_ON
    cv2.waitKey(20)
print(cv2.getWindowImageRect("a")[2:])
cv2.destroyAllWindows()
assert show_frame(np.zeros((300, 400, 3), np.uint8), "a") is Wish.GO_ON, "opened again by the program itself"
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "(400, 300)\n", "")
