from __future__ import annotations

import subprocess

import cv2
import numpy as np
import pytest

from roam_jax.video import select
from roam_jax.video.errors import DisplayError, UsageError


@pytest.fixture
def display(monkeypatch):
    """As if there were a screen; the user draws whatever the test puts into the list."""
    drawn = []
    monkeypatch.setenv("DISPLAY", ":0")
    monkeypatch.setattr(select.cv2, "getBuildInformation", lambda: "  GUI:   QT5")
    monkeypatch.setattr(select.subprocess, "run", lambda *_, **__: subprocess.CompletedProcess([], 0))
    for name in ("namedWindow", "resizeWindow", "destroyWindow"):
        monkeypatch.setattr(cv2, name, lambda *_: None)
    monkeypatch.setattr(cv2, "selectROI", lambda *_, **__: drawn[0])
    return drawn


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


def test_the_box_that_is_drawn_comes_back(display):
    display.append((3, 4, 10, 12))
    np.testing.assert_array_equal(select.select_box(np.zeros((48, 64, 3), np.uint8)), [3, 4, 10, 12])


def test_drawing_nothing_is_an_error(display):
    display.append((0, 0, 0, 0))
    with pytest.raises(UsageError, match="no box was drawn"):
        select.select_box(np.zeros((48, 64, 3), np.uint8))
