from __future__ import annotations

import dataclasses
import itertools
import json
import re
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest

from roam_jax import presets
from roam_jax.data import mix
from roam_jax.data.mix import Source, SourceError, load_mix, parse_source, whole_name
from roam_jax.data.pipeline import make_pipeline
from roam_jax.data.sequences import DataError
from roam_jax.data.synthetic import synthetic_sequence

SEQUENCE = synthetic_sequence(0, length=2, height=60, width=60)


def named(name, source="videos", **changes):
    return dataclasses.replace(SEQUENCE, name=name, source=source, **changes)


@pytest.fixture
def folders(monkeypatch):
    """Layouts' folders, by root: what `read_layout` shall find there."""
    content = {}
    monkeypatch.setattr(mix, "read_layout", lambda layout, root: content[root.name])
    return content


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("videos:/data/clips", Source("videos", Path("/data/clips"))),
        ("videos:/data/clips@2#uav", Source("videos", Path("/data/clips"), "uav", 2.0)),
        ("videos:clips@.5,cap=25", Source("videos", Path("clips"), "", 0.5, 25)),
        ("coco:stills@1e-1,cap=3#my-stills.2", Source("coco", Path("stills"), "my-stills.2", 0.1, 3)),
        (r"got10k:C:\data\got10k@2", Source("got10k", Path(r"C:\data\got10k"), "", 2.0)),
        (r"videos:C:\PROGRA~1\clips#a", Source("videos", Path(r"C:\PROGRA~1\clips"), "a")),
        ("otb:/data/me@home/otb", Source("otb", Path("/data/me@home/otb"))),
        ("otb:/data/c#/otb", Source("otb", Path("/data/c#/otb"))),
        ("videos:clips@2@3", Source("videos", Path("clips@2"), "", 3.0)),
        ("videos:clips@home@1", Source("videos", Path("clips@home"), "", 1.0)),
        (" videos:my clips ", Source("videos", Path("my clips"))),
        ("lasot-train:/data/lasot", Source("lasot-train", Path("/data/lasot"))),
    ],
)
def test_parse(text, expected):
    assert parse_source(text) == expected


@pytest.mark.parametrize("text", ["", "videos", "videos:", ":clips", "/data/clips"])
def test_parse_nonsense(text):
    with pytest.raises(SourceError, match="a source should be LAYOUT:ROOT"):
        parse_source(text)


@pytest.mark.parametrize(
    ("parts", "wrong"),
    [
        ("@-1", "a weight, a number from 0 on, behind @, but has '-1'"),
        ("@abc", "behind @, but has 'abc'"),
        ("@", "behind @, but has ''"),
        ("@nan#a", "behind @, but has 'nan'"),
        ("@1,cap=many", "behind @, but has '1,cap=many'"),
        ("#my clips", "a name, behind #, but has 'my clips'"),
        ("#a b@2", "behind #, but has 'a b'"),
    ],
)
def test_parse_wrong_parts(parts, wrong):
    with pytest.raises(SourceError, match=re.escape(wrong)):
        parse_source(f"videos:/data/clips{parts}")


def test_weights_out_of_range(folders):
    for changes in ({"weight": float("inf")}, {"cap": 0}):
        with pytest.raises(SourceError, match=f"the {next(iter(changes))} of clips should be"):
            load_mix([Source("videos", Path("clips"), **changes)], hold_out=0.0, seed=0)


@pytest.mark.parametrize(
    ("name", "whole"),
    [
        ("uav123_wakeboard3-1a", "uav123_wakeboard3"),
        ("uav123_wakeboard3-2", "uav123_wakeboard3"),
        ("uav123_truck2b", "uav123_truck2"),
        ("uav123_person12_1-2", "uav123_person12_1"),
        ("Jogging-1", "Jogging"),
        ("foda_Bolt-15174", "foda_Bolt-15174"),
        ("mot15adl6_person-02", "mot15adl6_person-02"),
        ("vehicles_night-0222-truck-m", "vehicles_night-0222-truck-m"),
        ("-1", "-1"),
    ],
)
def test_whole_name(name, whole):
    assert whole_name(named(name)) == whole


def test_objects_of_a_photograph_belong_together():
    assert whole_name(named("bees_12_345", still=True)) == whole_name(named("bees_12_346", still=True)) == "bees_12"


def test_hold_out(folders):
    names = [f"car{number}-{part}" for number in range(200) for part in "12"]
    folders["clips"] = [named(name) for name in names]
    whole = load_mix([Source("otb", Path("clips"))], hold_out=0.25, seed=0)
    held = {sequence.name for sequence in whole.held_out}
    assert held | {sequence.name for sequence in whole.train} == set(names)
    assert len(whole.train) + len(held) == 400
    assert 60 < len(held) < 140
    assert all((f"car{number}-1" in held) == (f"car{number}-2" in held) for number in range(200))

    folders["clips"] = folders["clips"][100:]
    fewer = load_mix([Source("otb", Path("clips"), "renamed")], hold_out=0.25, seed=0)
    assert {sequence.name for sequence in fewer.held_out} == held & set(names[100:])
    other = load_mix([Source("otb", Path("clips"))], hold_out=0.25, seed=1)
    assert {sequence.name for sequence in other.held_out} != held & set(names[100:])
    assert load_mix([Source("otb", Path("clips"))], hold_out=0.0, seed=0).held_out == []


def test_weights(folders):
    folders["clips"] = [named(f"{part}_{i}") for part, count in (("a", 30), ("b", 2), ("c", 10)) for i in range(count)]
    folders["stills"] = [named(f"s_{i}", source="coco", still=True) for i in range(7)]
    clips, stills = Source("videos", Path("clips"), weight=3.0), Source("coco", Path("stills"))

    plain = load_mix([clips, stills], hold_out=0.0, seed=0)
    assert plain.weights == pytest.approx({"a": 0.75 * 30 / 42, "b": 0.75 * 2 / 42, "c": 0.75 * 10 / 42, "coco": 0.25})
    capped = load_mix([dataclasses.replace(clips, cap=8), stills], hold_out=0.0, seed=0)
    assert capped.weights == pytest.approx({"a": 0.75 * 8 / 18, "b": 0.75 * 2 / 18, "c": 0.75 * 8 / 18, "coco": 0.25})
    called = load_mix([dataclasses.replace(clips, name="own"), stills], hold_out=0.0, seed=0)
    assert called.weights == pytest.approx({"own": 0.75, "coco": 0.25})
    both = load_mix([dataclasses.replace(clips, name="own", cap=8)], hold_out=0.0, seed=0)
    assert set(both.weights) == {"own/a", "own/b", "own/c"}
    assert {sequence.source for sequence in both.train} == set(both.weights)


def test_weights_fit_the_sequences_to_learn_from(folders):
    """A part that is held out as a whole has no weight, or the pipeline would refuse the weights."""
    folders["clips"] = [named(f"{part}_car") for part in "abcdefgh"]
    parts = load_mix([Source("videos", Path("clips"), cap=1)], hold_out=0.5, seed=0)
    assert 0 < len(parts.held_out) < 8
    assert set(parts.weights) == {sequence.source for sequence in parts.train}
    assert sum(parts.weights.values()) == pytest.approx(1.0)
    (batch,) = itertools.islice(make_pipeline(parts.train, presets.tiny(), seed=0, weights=parts.weights), 1)
    assert batch.patches.shape[0] == presets.tiny().meta.batch


def test_sequences_that_never_show_their_object_are_left_out(folders):
    folders["clips"] = [named("a_1"), named("a_2", visible=np.zeros(2, bool))]
    assert [s.name for s in load_mix([Source("videos", Path("clips"))], hold_out=0.0, seed=0).train] == ["a_1"]


def test_digest(folders):
    def digest(weight=1.0, hold_out=0.0):
        sources = [Source("otb", Path("one")), Source("otb", Path("two"), weight=weight)]
        return load_mix(sources, hold_out=hold_out, seed=0).digest

    folders["one"], folders["two"] = [named("a", "x"), named("b", "x")], [named("c", "y")]
    first = digest()
    assert first == digest()
    assert len(first) == 64
    others = [digest(weight=2.0), digest(hold_out=0.6)]
    folders["two"] = [dataclasses.replace(folders["two"][0], boxes_xywh=folders["two"][0].boxes_xywh + 1)]
    assert len({first, digest(), *others}) == 4


@pytest.mark.parametrize(
    ("sources", "hold_out", "message"),
    [
        ([Source("otb", Path("clips"))], 1.0, "below 1"),
        ([Source("otb", Path("clips"))], -0.1, "at least 0"),
        ([Source("otb", Path("clips"), weight=-1.0)], 0.0, "the weight of clips"),
        ([Source("otb", Path("clips"), cap=0)], 0.0, "the cap of clips"),
        ([Source("otb", Path("clips")), Source("otb", Path("clips"))], 0.0, "two sources are called 'videos'"),
        ([Source("otb", Path("clips"), weight=0.0)], 0.0, "sequences to learn from"),
        ([Source("otb", Path("clips"))], 0.999999, "sequences to learn from"),
        ([], 0.0, "sequences to learn from"),
    ],
)
def test_nonsense(folders, sources, hold_out, message):
    folders["clips"] = [named("a")]
    with pytest.raises(DataError, match=message):
        load_mix(sources, hold_out=hold_out, seed=0)


def test_a_folder_of_stills(tmp_path):
    """With the real readers: objects of one photograph stay together."""
    (tmp_path / "images").mkdir()
    images, notes = [], []
    for number in range(40):
        cv2.imwrite(str(tmp_path / "images" / f"{number}.png"), np.zeros((100, 100, 3), np.uint8))
        images.append({"id": number, "file_name": f"{number}.png", "width": 100, "height": 100})
        notes += [{"id": 3 * number + k, "image_id": number, "bbox": [20 * k, 9, 20, 20]} for k in range(3)]
    (tmp_path / "instances.json").write_text(json.dumps({"images": images, "annotations": notes}))
    stills = load_mix([parse_source(f"coco:{tmp_path}#stills")], hold_out=0.3, seed=0)
    assert stills.weights == {"stills": 1.0}
    assert set(Counter(s.name.split("_")[0] for s in stills.train + stills.held_out).values()) == {3}
    train, held = ({s.name.split("_")[0] for s in side} for side in (stills.train, stills.held_out))
    assert train
    assert held
    assert not train & held
    with pytest.raises(DataError, match="the layout should be one of"):
        load_mix([parse_source(f"c:{tmp_path}")], hold_out=0.0, seed=0)
