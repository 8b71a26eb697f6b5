from __future__ import annotations

import json
import sys

import jax.numpy as jnp
import numpy as np
import pytest

from roam_jax.extras import MissingExtra
from roam_jax.training.writer import LogError, Writer, histogram_of, read_log


def write_steps(writer, steps):
    """Records that depend on the step alone; the times are another story."""
    for step in steps:
        rng = np.random.default_rng(step)
        writer.log(step, {"loss": rng.random()}, {"meta": rng.random(3)}, {"theta": rng.normal(size=50)})
        writer.log_time(step, {"step_s": 0.5})


def test_records(tmp_path):
    with Writer(tmp_path, tensorboard=False) as writer:
        writer.log(3, {"loss": jnp.float32(0.5), "rate": 1e-3}, {"meta": np.array([1.0, 2.0])})
        writer.log(3, {"validation": np.float64(0.25)})
        writer.log_time(3, {"step_s": 1.5})
    assert read_log(tmp_path / "log.jsonl") == [
        {"step": 3, "scalars": {"loss": 0.5, "rate": 1e-3}, "series": {"meta": [1.0, 2.0]}},
        {"step": 3, "scalars": {"validation": 0.25}},
    ]
    assert read_log(tmp_path / "time.jsonl") == [{"step": 3, "scalars": {"step_s": 1.5}}]


def test_numbers_that_are_not_finite_are_valid_json(tmp_path):
    def refuse(name):
        raise AssertionError(f"{name} is no JSON")

    bad = np.array([1.0, np.nan, -np.inf, 3.0])
    with Writer(tmp_path, tensorboard=False) as writer:
        writer.log(0, {"loss": np.nan}, {"meta": bad}, {"theta": bad, "none": bad[1:3]})
    record = json.loads((tmp_path / "log.jsonl").read_text(), parse_constant=refuse)
    assert record["scalars"] == {"loss": None}
    assert record["series"] == {"meta": [1.0, None, None, 3.0]}
    assert sum(record["histograms"]["theta"]["counts"]) == record["histograms"]["theta"]["not_finite"] == 2
    assert record["histograms"]["none"] == {"edges": [], "counts": [], "not_finite": 2}


def test_lines_are_there_before_the_file_is_closed(tmp_path):
    writer = Writer(tmp_path, tensorboard=False)
    write_steps(writer, range(3))
    assert [record["step"] for record in read_log(tmp_path / "log.jsonl")] == [0, 1, 2]
    assert len(read_log(tmp_path / "time.jsonl")) == 3
    writer.close()


@pytest.mark.parametrize("tail", [b"", b'{"step":9,"scal', b'{"step":9}', b"\0\0\0\0"])
def test_a_resumed_log_has_the_bytes_of_an_uninterrupted_one(tmp_path, tail):
    with Writer(tmp_path / "whole", tensorboard=False) as writer:
        write_steps(writer, range(10))
    with Writer(tmp_path / "resumed", tensorboard=False) as writer:
        write_steps(writer, range(9))
    for name in ("log.jsonl", "time.jsonl"):
        with (tmp_path / "resumed" / name).open("ab") as file:
            file.write(tail)
    with Writer(tmp_path / "resumed", resume_step=6, tensorboard=False) as writer:
        write_steps(writer, range(6, 10))
    for name in ("log.jsonl", "time.jsonl"):
        assert (tmp_path / "resumed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_a_run_that_starts_anew_drops_everything(tmp_path):
    for _ in range(2):
        with Writer(tmp_path, tensorboard=False) as writer:
            write_steps(writer, range(2))
    assert len(read_log(tmp_path / "log.jsonl")) == 2


def test_damage_inside_a_log_is_not_thrown_away(tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_text('{"step":0}\nnonsense\n{"step":2}\n')
    with pytest.raises(LogError, match="line 2 should be a record"):
        Writer(tmp_path, resume_step=3, tensorboard=False)
    assert path.read_text().endswith('nonsense\n{"step":2}\n')
    with pytest.raises(LogError, match="no such file"):
        read_log(tmp_path / "none.jsonl")


def test_histogram_of_positive_values_has_bins_in_logarithm():
    values = np.geomspace(1e-6, 1e-2, 1000)
    histogram = histogram_of(values, bins=8)
    edges, counts = np.array(histogram["edges"]), np.array(histogram["counts"])
    np.testing.assert_allclose(edges[1:] / edges[:-1], np.sqrt(10), rtol=1e-9)
    assert counts.sum() == 1000
    assert np.ptp(counts) <= 2


def test_histogram_of_signed_values_has_even_bins():
    histogram = histogram_of(np.array([[-1.0, 0.1], [0.2, 3.0]]), bins=4)
    assert histogram == {"edges": [-1.0, 0.0, 1.0, 2.0, 3.0], "counts": [1, 2, 0, 1]}


def test_histogram_of_equal_values():
    assert histogram_of(np.full(7, 3e-5)) == {"edges": [3e-5, 3e-5], "counts": [7]}


def test_tensorboard_events(tmp_path):
    Event = pytest.importorskip("tensorboardX.proto.event_pb2").Event
    with Writer(tmp_path) as writer:
        write_steps(writer, range(2))
    with Writer(tmp_path, resume_step=1) as writer:
        write_steps(writer, range(1, 3))
    events = []
    for path in sorted((tmp_path / "tensorboard").iterdir(), key=lambda path: path.stat().st_mtime_ns):
        data = path.read_bytes()
        while data:
            length = int.from_bytes(data[:8], "little")
            events.append(Event.FromString(data[12 : 12 + length]))
            data = data[16 + length :]
    tags = {value.tag for event in events for value in event.summary.value}
    assert tags == {"loss", "meta/0", "meta/1", "meta/2", "theta", "time/step_s"}
    assert [event.step for event in events if event.HasField("session_log")] == [1]
    logged = [event.step for event in events for value in event.summary.value if value.tag == "loss"]
    assert logged == [0, 1, 1, 2]
    theta = next(value.histo for event in events for value in event.summary.value if value.tag == "theta")
    assert theta.num == sum(theta.bucket) == 50


def test_without_tensorboardx(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    with pytest.raises(MissingExtra, match="pip install 'roam-jax"):
        Writer(tmp_path)
    Writer(tmp_path, tensorboard=False).close()
