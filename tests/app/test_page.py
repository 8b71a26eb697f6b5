"""The page in the system's Chromium: open, draw, track, correct, export."""

from __future__ import annotations

import io
import shutil
import socket
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

from roam_jax.app.__main__ import main

sync = pytest.importorskip("playwright.sync_api")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine: apt-get install chromium")
SERVE = Path(__file__).with_name("serve.py")
COUNT, SIZE_HW, SCALE = 12, (120, 200), 2
BOX = (40, 30, 60, 40)


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    from roam_jax.video.sink import VideoWriter
    from roam_jax.video.source import DEFAULT_FPS

    path = tmp_path_factory.mktemp("page") / "clip.mp4"
    with VideoWriter(path, SIZE_HW, DEFAULT_FPS) as writer:
        for number in range(COUNT):
            writer.write(np.full((*SIZE_HW, 3), 10 * number, np.uint8))
    return path


@pytest.fixture(scope="module")
def address():
    with subprocess.Popen([sys.executable, SERVE], stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        line = server.stdout.readline()
        yield line.removeprefix("the page is at ").strip()
        server.kill()


@pytest.fixture
def tab(address):
    asked = []
    with sync.sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        tab = browser.new_page(viewport={"width": 1100, "height": 1500})
        tab.set_default_timeout(30_000)
        tab.on("request", lambda request: asked.append(request.url))
        tab.goto(address)
        yield tab
        browser.close()
    assert [url for url in asked if not url.startswith((address, "data:", "blob:"))] == [], "no request leaves"


def drag(tab, start, end):
    """From one place of the frame to another, in pixels of the video."""
    canvas = tab.locator("#frame canvas").bounding_box()
    left = canvas["x"] + (canvas["width"] - SCALE * SIZE_HW[1]) / 2
    places = [(left + SCALE * x, canvas["y"] + SCALE * y) for x, y in (start, end)]
    tab.mouse.move(*places[0])
    tab.mouse.down()
    tab.mouse.move(*np.mean(places, axis=0), steps=3)
    tab.mouse.move(*places[1], steps=3)
    tab.mouse.up()


def at_frame(tab, number):
    tab.wait_for_function("n => document.querySelector('#slider input[type=number]').value == n", arg=str(number))


@needs_browser
def test_open_draw_track_correct_and_export(tab, video):
    tab.locator("#video input[type=file]").set_input_files(video)
    tab.wait_for_selector("#frame canvas")
    tab.wait_for_function("() => document.querySelector('#slider input[type=range]').max == '11'")
    tab.wait_for_timeout(500)
    x, y, w, h = BOX
    drag(tab, (x, y), (x + w, y + h))
    tab.click("#forwards")
    at_frame(tab, COUNT - 1)
    for number in (10, 9, 8):
        tab.keyboard.press("ArrowLeft")
        at_frame(tab, number)
    tab.wait_for_timeout(500)
    middle = (x + 16 + w / 2, y + h / 2)
    tab.get_by_label("Drag boxes").click()
    drag(tab, middle, (middle[0] + 20, middle[1] + 30))  # it is moved
    tab.click("#forwards")
    at_frame(tab, COUNT - 1)
    tab.get_by_label("csv").check()
    tab.click("#export")
    link = tab.locator("#zip a[href]").first.get_attribute("href")
    with zipfile.ZipFile(io.BytesIO(tab.request.get(link).body())) as archive:
        assert archive.namelist() == ["boxes.txt", "track.csv", "track.jsonl", "video.mp4"]
        boxes = np.loadtxt(io.StringIO(archive.read("boxes.txt").decode()), delimiter=",")
    assert len(boxes) == COUNT
    np.testing.assert_allclose(boxes[0], BOX, atol=2)
    np.testing.assert_allclose(boxes[7] - boxes[0], [14, 0, 0, 0], atol=0.01)
    np.testing.assert_allclose(boxes[8] - boxes[0], [36, 30, 0, 0], atol=3)
    np.testing.assert_allclose(boxes[11] - boxes[8], [6, 0, 0, 0], atol=0.01)


@needs_browser
def test_what_is_wrong_is_a_sentence(tab, tmp_path):
    tab.click("#forwards")
    tab.get_by_text("open a video first").first.wait_for()
    (tmp_path / "no.mp4").write_bytes(b"no video")
    tab.locator("#video input[type=file]").set_input_files(tmp_path / "no.mp4")
    tab.get_by_text("is not a video that FFmpeg can read").first.wait_for()


def test_wrong_arguments(capsys, tmp_path):
    assert main(["--port", "70000"]) == 2
    assert "--port must be 0 to 65535, but is 70000" in capsys.readouterr().err
    assert main([str(tmp_path / "no.mp4")]) == 3
    assert main(["--checkpoint", "none"]) == 5
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        done = subprocess.run([sys.executable, SERVE, str(taken.getsockname()[1])], capture_output=True, text=True)
    assert done.returncode == 6
    assert "the page cannot be served at 127.0.0.1:" in done.stderr.splitlines()[-1]
