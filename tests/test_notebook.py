"""The notebook's widget, without a browser: the same methods, traits and messages."""

from __future__ import annotations

import json

import cv2
import jax
import numpy as np
import pytest

import roam_jax
from roam_jax import presets
from roam_jax.checkpoints import Checkpoint
from roam_jax.data.synthetic import synthetic_sequence
from roam_jax.errors import ExplainedError, InputError, UsageError
from roam_jax.notebook import GIVEN, NOTHING, TRACKED, WAS_LOST, Tracking
from roam_jax.tracking.params import init_params, params_to_dict
from roam_jax.video.follow import follow
from roam_jax.video.formats import Given
from roam_jax.video.source import MemoryFrames

COUNT = 10


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    config = presets.tiny()
    params = jax.jit(lambda key: init_params(config, key=key))(jax.random.key(0))
    return Checkpoint(config, jax.tree.map(np.asarray, params_to_dict(params)), "for tests")


@pytest.fixture(scope="module")
def clip() -> tuple[list[np.ndarray], np.ndarray]:
    sequence = synthetic_sequence(0, length=COUNT)
    return list(sequence.frames.get(range(COUNT))), sequence.boxes_xywh


@pytest.fixture
def tracking(checkpoint, clip):
    widget = Tracking(clip[0], checkpoint=checkpoint)
    yield widget
    widget.close()


def run(widget: Tracking) -> None:
    widget.track()
    assert widget.wait(60)


def sent(widget: Tracking, **content) -> None:
    """A message as the browser sends it."""
    widget._handle_custom_msg(content, [])


def test_a_frame_is_sent_when_it_is_looked_at(tracking, clip):
    assert tracking.video["count"] == COUNT
    for number in (0, 7, 3):
        tracking.frame = number
        assert tracking.shown["number"] == number
        picture = cv2.imdecode(np.frombuffer(tracking.shown["jpeg"], np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
        assert np.mean(np.abs(picture.astype(float) - clip[0][number])) < 6
    tracking.frame = 99
    assert tracking.frame == COUNT - 1


def test_a_box_a_run_and_the_result(tracking, checkpoint, clip):
    images, boxes = clip
    sent(tracking, do="give", box=boxes[0].tolist())
    assert tracking.targets == 1
    assert tracking.shown["given"] == [1]
    assert tracking.timeline == bytes([GIVEN, *[NOTHING] * (COUNT - 1)])
    sent(tracking, do="track")
    assert tracking.wait(60)
    expected = roam_jax.track(images, boxes[0], checkpoint=checkpoint)
    np.testing.assert_array_equal(tracking.result.boxes_xywh, expected.boxes_xywh)
    np.testing.assert_array_equal(tracking.result.scores, expected.scores)
    assert tracking.message.startswith(f"{COUNT} frames tracked")
    assert tracking.frame == tracking.shown["number"] == COUNT - 1
    seen = json.loads(tracking.shown["boxes"][0])
    np.testing.assert_allclose(seen["box"], expected.boxes_xywh[-1, 0], atol=1e-3)
    marks = [WAS_LOST if lost else TRACKED for lost in expected.lost[1:, 0]]
    assert list(tracking.timeline) == [GIVEN, *marks]
    assert "<video" in tracking.result._repr_html_()


def test_a_correction_and_a_later_object(tracking, checkpoint, clip):
    images, boxes = clip
    tracking.give(boxes[0])
    run(tracking)
    before = tracking.result.boxes_xywh
    tracking.frame = 5
    corrected = boxes[5] + np.float32(2)
    tracking.give(corrected)
    tracking.give((20, 20, 30, 30), frame=7, target=1)
    assert tracking.message == '"Track" goes on from frame 5'
    assert list(tracking.timeline[5:]) == [GIVEN, NOTHING, GIVEN, NOTHING, NOTHING], "what follows is out of date"
    run(tracking)
    trackers = [roam_jax.Tracker(checkpoint) for _ in range(2)]
    given = [Given(0, 0, boxes[0]), Given(5, 0, corrected), Given(7, 1, np.array([20, 20, 30, 30], np.float32))]
    after = tracking.result
    assert after.boxes_xywh.shape == (COUNT, 2, 4)
    for frame, said in follow(MemoryFrames("", images).timed(), trackers, given):
        for each in said:
            np.testing.assert_array_equal(after.boxes_xywh[frame.number, each.target], each.box_xywh)
    np.testing.assert_array_equal(after.boxes_xywh[:5, 0], before[:5, 0])
    assert np.isnan(after.boxes_xywh[:7, 1]).all()
    assert np.isnan(after.scores[:7, 1]).all()
    assert len(after.to_pandas()) == COUNT + 3
    tracking.take_back(frame=7, target=1)
    assert tracking.targets == 1


def test_stopped_it_keeps_what_there_is_and_goes_on(tracking, clip):
    tracking.give(clip[1][0])
    tracking.observe(lambda _: tracking.stop(), "message")  # which the thread sets, too, at its first frame
    run(tracking)
    assert 0 < len(tracking.result) < COUNT
    assert tracking.frame == len(tracking.result) - 1
    tracking.unobserve_all("message")
    run(tracking)
    np.testing.assert_array_equal(tracking.result.frames, range(COUNT))


def test_what_is_wrong_is_said(tracking, clip, checkpoint):
    with pytest.raises(UsageError, match="draw a box"):
        tracking.track()
    sent(tracking, do="track")
    assert tracking.message == "draw a box around the object first"
    sent(tracking, do="give", box=[900, 900, 10, 10])
    assert "lies outside the image" in tracking.message
    with pytest.raises(UsageError, match="four numbers"):
        tracking.give((1, 2, 3))
    tracking.give(clip[1][0])
    tracking.running = True
    with pytest.raises(UsageError, match="stop it first"):
        tracking.give(clip[1][0])
    tracking.running = False
    with pytest.raises(InputError, match="no file or folder nowhere"):
        Tracking("nowhere.mp4", checkpoint=checkpoint)


def test_a_fault_is_said_and_nothing_is_lost(tracking, clip, monkeypatch):
    tracking.give(clip[1][0])
    run(tracking)
    tracking.give(clip[1][4], frame=4)

    def broken(*_):
        raise ExplainedError("the frame is damaged")

    monkeypatch.setattr(roam_jax.Tracker, "update", broken)
    run(tracking)
    assert tracking.message == "the frame is damaged"
    np.testing.assert_array_equal(tracking.result.frames, range(5))
