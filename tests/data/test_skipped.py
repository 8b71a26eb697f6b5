"""What cannot be read is left out, and a run that is resumed does not notice what has become of it since."""

from __future__ import annotations

import dataclasses
import itertools
import json
import logging

import numpy as np
import pytest

from roam_jax import presets
from roam_jax.data.mix import load_mix, parse_source
from roam_jax.data.pipeline import ATTEMPTS, make_pipeline
from roam_jax.data.sequences import DataError, Frames
from roam_jax.data.skipped import Entry, Skipped, restore
from roam_jax.data.synthetic import synthetic_sequence

STEPS = 6


@dataclasses.dataclass(frozen=True)
class Broken(Frames):
    """Frames of which those from one on cannot be read."""

    frames: Frames
    first: int = 0

    def __len__(self):
        return len(self.frames)

    def read(self, index):
        if index >= self.first:
            raise DataError(f"frame {index} cannot be read")
        return self.frames.read(index)


def fine(count=4, source=""):
    return [
        dataclasses.replace(synthetic_sequence(number, length=9, height=80, width=80), source=source)
        for number in range(count)
    ]


def broken(sequences, number=1, first=0):
    changed = list(sequences)
    changed[number] = dataclasses.replace(changed[number], frames=Broken(changed[number].frames, first))
    return changed


def take(sequences, skipped=None, start=0, **options):
    batches = make_pipeline(sequences, presets.tiny(), seed=3, skipped=skipped, start_step=start, **options)
    return list(itertools.islice(batches, STEPS - start))


def skipped_of(sequences, entries=(), limit=3):
    return Skipped([sequences], limit=limit, entries=entries)


def stored(skipped):
    """Entries as they come back from the file of a run."""
    return [Entry(**values) for values in json.loads(json.dumps([vars(entry) for entry in skipped.entries]))]


def same(first, second):
    return [np.array_equal(a.patches, b.patches) for a, b in zip(first, second, strict=True)]


@pytest.mark.parametrize("n_threads", [0, 1, 4])
def test_another_clip_takes_the_place(caplog, n_threads):
    sequences = broken(fine())
    skipped = skipped_of(sequences)
    batches = take(sequences, skipped, n_threads=n_threads)
    (entry,) = skipped.entries
    assert (entry.name, entry.reason[:6], entry.data, entry.place) == (sequences[1].name, "frame ", 0, 1)
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert f"{sequences[1].name} is left out" in caplog.text
    whole = take(fine())
    rows = [np.array_equal(a, b) for x, y in zip(batches, whole, strict=True) for a, b in zip(x[0], y[0], strict=True)]
    assert 0 < rows.count(False) <= STEPS  # each fourth clip, and no other, is another one
    assert rows.index(False) == entry.clip
    assert all(same(batches, take(sequences, skipped_of(sequences), n_threads=2)))


def test_a_file_that_breaks_off_is_left_out_from_its_first_clip_on():
    sequences = broken(fine(2), first=6)
    skipped = skipped_of(sequences)
    batches = take(sequences, skipped)
    clip = skipped.entries[0].clip
    assert clip > 0
    every = same(batches, take(fine(2)))
    assert every.index(False) == clip // 2
    # Clips of it that could be read by themselves are left out too.
    rest = Skipped([sequences], limit=1, entries=[dataclasses.replace(skipped.entries[0], clip=0)])
    assert all(same(batches[clip // 2 + 1 :], take(sequences, rest)[clip // 2 + 1 :]))


@pytest.mark.parametrize("start", [1, 3, 5])
@pytest.mark.parametrize("became", ["as it was", "repaired", "gone"])
@pytest.mark.parametrize("first", [0, 6])
def test_going_on_gives_the_same_clips(became, first, start):
    sequences = broken(fine(), first=first)
    skipped = skipped_of(sequences)
    whole = take(sequences, skipped)
    entries = stored(skipped)
    assert entries == skipped.entries
    if entries[0].clip >= 2 * start:  # resumed from before: clips of it are still needed
        start = entries[0].clip // 2
    now = {"as it was": sequences, "repaired": fine(), "gone": [s for n, s in enumerate(sequences) if n != 1]}[became]
    now = restore(now, entries)
    assert [s.name for s in now] == [s.name for s in sequences]
    assert all(same(whole[start:], take(now, skipped_of(now, entries), start)))


def test_too_many_are_an_error():
    sequences = broken(broken(fine(), 1), 2)
    with pytest.raises(DataError, match=r"^frame 0 cannot|^frame \d cannot be read$"):
        take(sequences)
    with pytest.raises(DataError, match="more than 1 sequences cannot be read, and this is the last: frame"):
        take(sequences, skipped_of(sequences, limit=1))
    assert len(take(sequences, skipped_of(sequences, limit=2))) == STEPS
    nothing = broken(fine(1), 0)
    with pytest.raises(DataError, match=f"none of {ATTEMPTS} clips in a row can be read; the first: frame"):
        take(nothing, skipped_of(nothing))


def test_a_source_that_is_all_broken_leaves_the_others():
    sequences = broken(fine(1, "a"), 0) + [dataclasses.replace(s, name=s.name + "b") for s in fine(2, "b")]
    for weights in ({"a": 1.0, "b": 1.0}, {"a": 3.0, "b": 1.0}):
        assert len(take(sequences, skipped_of(sequences, limit=1), weights=weights)) == STEPS


def test_entries_of_several_processes_are_one_each():
    sequences = broken(fine())
    skipped = skipped_of(sequences)
    skipped.add(sequences[1], 5, "once")
    skipped.add(sequences[1], 3, "again")
    (entry,) = skipped.entries
    assert (entry.clip, entry.reason) == (3, "again")
    later = dataclasses.replace(entry, clip=9)
    assert skipped_of(sequences, [entry, later]).entries == [entry]


def test_what_is_left_out_is_written_at_once():
    sequences = broken(fine())
    skipped, written = skipped_of(sequences), []
    skipped.keep(written.append)
    assert written == []
    skipped.add(sequences[1], 5, "once")
    skipped.keep(written.append)
    assert [[values["clip"] for values in one] for one in written] == [[5], [5]]


def test_a_mix_with_a_file_that_is_gone_is_the_same(tmp_path, write_video):
    names = ["a_1", "a_2", "b_1", "b_2", "c_1"]
    for name in names:
        write_video(tmp_path / f"{name}.mp4", 3)
        (tmp_path / f"{name}.txt").write_text("1,2,30,40\nnan,nan,nan,nan\n3,4,30,20\n")
    source = parse_source(f"videos:{tmp_path}@1,cap=1")
    before = load_mix([source], hold_out=0.3, seed=1)
    skipped = Skipped(before.listed, limit=9)
    for gone in ("b_2", "a_1"):
        skipped.add(next(s for s in before.train + before.held_out if s.name == gone), 4, "broken")
        (tmp_path / f"{gone}.mp4").unlink()
    assert load_mix([source], hold_out=0.3, seed=1).digest != before.digest
    after = load_mix([source], hold_out=0.3, seed=1, skipped=stored(skipped))
    assert (after.digest, after.weights) == (before.digest, before.weights)
    for ours, theirs in ((after.train, before.train), (after.held_out, before.held_out)):
        assert [sequence.name for sequence in ours] == [sequence.name for sequence in theirs]
    with pytest.raises(DataError, match="broken"):
        next(s for s in after.listed[0] if s.name == "a_1").frames.get([0])
