from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from roam_jax.errors import InputError, UsageError
from roam_jax.video.choice import Moment, choose_frames, parse_moment
from roam_jax.video.source import MemoryFrames

NAN = [np.nan] * 4


def make_source(truth=None) -> MemoryFrames:
    """Ten frames, each with its number as grey, a tenth of a second apart."""
    images = [np.full((8, 8, 3), number, np.uint8) for number in range(10)]
    return MemoryFrames("ten", images, Fraction(10), None if truth is None else np.array(truth, np.float32))


@pytest.mark.parametrize(
    ("start", "stop", "step", "expected"),
    [
        ("", "", 1, range(10)),
        ("3", "", 1, range(3, 10)),
        ("3", "7", 1, range(3, 7)),
        ("0.3s", "0.7s", 1, range(3, 7)),
        ("0:00.3", "0.9s", 1, range(3, 9)),
        ("1", "", 4, (1, 5, 9)),
        ("", "100", 3, (0, 3, 6, 9)),
    ],
)
def test_the_chosen_frames_keep_their_numbers_and_times(start, stop, step, expected):
    source = choose_frames(make_source(), start, stop, step)
    frames = list(source.timed())
    assert [frame.number for frame in frames] == list(expected)
    assert [int(frame.image[0, 0, 0]) for frame in frames] == list(expected)
    np.testing.assert_allclose([frame.seconds for frame in frames], np.array(expected) / 10)
    assert source.n_frames == len(expected)
    assert source.fps == Fraction(10, step)


def test_a_sequence_starts_where_its_object_appears(caplog):
    truth = [NAN, [0, 0, 0, 0], *[[1, 2, 3, 4]] * 8]
    assert next(choose_frames(make_source(truth), "", "", 1).timed()).number == 2
    assert "appears in frame 2" in caplog.text
    assert next(choose_frames(make_source(truth), "5", "", 1).timed()).number == 5


@pytest.mark.parametrize("text", ["-1", "1.5", "s", "1:2", "1:2:3:04", "99999999999", "ten", "1e3"])
def test_what_is_no_moment_is_refused(text):
    with pytest.raises(UsageError, match=r"--start is the number of a frame.*12\.5s"):
        parse_moment(text, "--start")


def test_moments_are_numbers_or_times():
    assert parse_moment("12", "--start") == Moment(12)
    assert [parse_moment(text, "--stop").seconds for text in ("2s", "1.5s", "1:02.5", "1:00:00")] == [
        2,
        1.5,
        62.5,
        3600,
    ]


@pytest.mark.parametrize(("start", "stop", "step"), [("5", "5", 1), ("5s", "4s", 1), ("", "0", 1), ("", "", 0)])
def test_no_frames_at_all_are_refused(start, stop, step):
    with pytest.raises(UsageError, match="--st"):
        choose_frames(make_source(), start, stop, step)


def test_an_input_that_ends_before_says_so():
    with pytest.raises(InputError, match="no frame to track from frame 10 on"):
        list(choose_frames(make_source(), "10", "", 1))
