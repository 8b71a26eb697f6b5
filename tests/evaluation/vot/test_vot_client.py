"""The tracker as the VOT toolkit sees it: TraX's own client speaks to it in another process."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from roam_jax.data.readers.vot import polygons_to_boxes
from roam_jax.data.sequences import DataError
from roam_jax.evaluation.vot import client as vot

SERVER = """
import sys
import numpy as np
from roam_jax.evaluation.vot.client import serve

class Shifted:
    '''Says the box it was started from, moved by the mean of the picture's red and blue; gives up when all is green.'''

    def init(self, image, box_xywh):
        self.box, self.score = np.array(box_xywh, float), 0.5

    def update(self, image):
        red, green, blue = image.reshape(-1, 3).mean(axis=0)
        if green == 255:
            raise ValueError("this is too green\\nto be tracked")
        return self.box + [red, blue, 0, 0]

serve(Shifted, name="shifted")
"""
Start = Callable[[], tuple]
LOGS: list[tuple] = []
"""vot-trax 4.0.2 needs a log, and crashes when a client is collected after it"""


@pytest.fixture
def start() -> Iterator[Start]:
    """A client of a new server, and the server's process."""
    client = pytest.importorskip("trax.client", reason="vot-trax is not installed, or has no wheel for this system")
    servers = []

    def begin() -> tuple:
        process = subprocess.Popen(
            [sys.executable, "-c", SERVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        servers.append(process)
        pipes = (process.stdin.fileno(), process.stdout.fileno())
        session = client.Client(stream=pipes, log=lambda text: None)
        LOGS.append((session._logger, session._clogger))
        return session, process

    yield begin
    for process in servers:
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout, process.stderr):
            stream.close()


def picture(red: int, green: int, blue: int) -> np.ndarray:
    return np.full((30, 40, 3), (red, green, blue), np.uint8)


def boxes_of(answer: tuple) -> list[list[float]]:
    objects, _ = answer
    return [list(region.bounds()) for region, _ in objects]


def as_sent(pixels: np.ndarray, folder: Path) -> dict[str, object]:
    import trax

    encoded = cv2.imencode(".png", pixels[..., ::-1])[1].tobytes()
    path = folder / "a picture.png"
    path.write_bytes(encoded)
    return {
        "path": trax.FileImage.create(str(path)),
        "memory": trax.MemoryImage.create(pixels),
        "buffer": trax.BufferImage.create(encoded),
    }


def test_a_session(start, tmp_path):
    client, process = start()
    import trax

    assert (client.tracker_name, client.get("multiobject")) == ("shifted", True)
    assert set(client.region_formats) == {"rectangle", "polygon"}
    assert set(client.image_formats) == {"path", "memory", "buffer"}

    box = trax.Rectangle.create(1.5, 2, 10, 12)
    for kind, image in as_sent(picture(3, 0, 5), tmp_path).items():
        frame = {"color": image}
        assert boxes_of(client.initialize(frame, [(box, {})], {})) == [[1.5, 2, 10, 12]], kind
        assert boxes_of(client.frame(frame, {}, [])) == [[4.5, 7, 10, 12]], kind

    grey = {"color": trax.MemoryImage.create(picture(7, 7, 7)[..., 0].copy())}
    assert boxes_of(client.frame(grey, {}, [])) == [[8.5, 9, 10, 12]]
    deep = {"color": trax.MemoryImage.create(np.full((30, 40), 9 * 256, np.uint16))}
    assert boxes_of(client.frame(deep, {}, [])) == [[10.5, 11, 10, 12]]
    (_, properties), *_ = client.frame(grey, {}, [])[0]
    assert properties == {"confidence": "0.50000"}

    client.quit()
    assert process.wait(timeout=20) == 0


def test_polygons_become_boxes_by_the_rule_of_the_reader(start):
    client, _ = start()
    import trax

    black = {"color": trax.MemoryImage.create(picture(0, 0, 0))}
    corners = [(5.125, 4), (20.25, 8), (18, 16.5), (2.875, 12.5)]
    expected = polygons_to_boxes(np.array(corners).reshape(1, 8))[0]
    (actual,) = boxes_of(client.initialize(black, [(trax.Polygon.create(corners), {})], {}))
    assert actual == pytest.approx(expected, abs=1e-4)
    triangle = trax.Polygon.create([(1, 2), (11, 2), (1, 22)])
    assert boxes_of(client.initialize(black, [(triangle, {})], {})) == [[1, 2, 11, 21]]
    assert boxes_of(client.frame(black, {}, [])) == [[1, 2, 11, 21]]


def test_several_objects_and_new_ones(start):
    client, _ = start()
    import trax

    one = {"color": trax.MemoryImage.create(picture(1, 0, 0))}
    boxes = [trax.Rectangle.create(x, 0, 5, 6) for x in (0, 10, 20)]
    answer = client.initialize(one, [(box, {}) for box in boxes[:2]], {})
    assert boxes_of(answer) == [[0, 0, 5, 6], [10, 0, 5, 6]]
    answer = client.frame(one, {}, [(boxes[2], {})])
    assert boxes_of(answer) == [[1, 0, 5, 6], [11, 0, 5, 6], [20, 0, 5, 6]]
    assert boxes_of(client.frame(one, {}, [])) == [[1, 0, 5, 6], [11, 0, 5, 6], [21, 0, 5, 6]]
    assert boxes_of(client.initialize(one, [(boxes[1], {})], {})) == [[10, 0, 5, 6]]
    assert boxes_of(client.frame(one, {}, [])) == [[11, 0, 5, 6]]


@pytest.mark.parametrize("fault", ["tracker", "file", "bytes"])
def test_errors_reach_the_other_side_in_one_sentence(start, tmp_path, fault):
    client, process = start()
    import trax

    green = {"color": trax.MemoryImage.create(picture(0, 255, 0))}
    client.initialize(green, [(trax.Rectangle.create(1, 1, 5, 5), {})], {})
    frame, reason = {
        "tracker": (green, "this is too green to be tracked"),
        "file": (
            {"color": trax.FileImage.create(str(tmp_path / "no.png"))},
            "no.png should be a picture, but it cannot",
        ),
        "bytes": (
            {"color": trax.BufferImage.create(b"\xff\xd8\xff\xe0 this is no JPEG")},
            "should be JPEG or PNG, but it cannot be decoded",
        ),
    }[fault]
    with pytest.raises(trax.TraxException, match=reason):
        client.frame(frame, {}, [])
    assert process.wait(timeout=20) != 0


def test_without_the_package(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "trax", None)
    assert vot.main(["--tracker", "cv2:mil"]) == 2
    assert "pip install 'roam-jax[vot]'" in capsys.readouterr().err


def test_other_kinds_of_images_and_regions():
    class Other:
        type = "mask"

    class Url:
        @staticmethod
        def type() -> str:
            return "url"

    with pytest.raises(ValueError, match="should be given as a rectangle or polygon, but is given as a mask"):
        vot.read_region(Other())
    with pytest.raises(DataError, match="raw or encoded, but is sent as url"):
        vot.read_image(Url())
