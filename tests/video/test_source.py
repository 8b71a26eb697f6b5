from __future__ import annotations

import logging
import re
import threading
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from roam_jax.data.readers.own import read_videos
from roam_jax.errors import InputError
from roam_jax.pictures import read_image
from roam_jax.video.files import VideoFile
from roam_jax.video.inputs import natural_key, open_source
from roam_jax.video.source import MemoryFrames, prefetch

SIZE_HW = (96, 128)


def make_frames(count: int, size_hw: tuple[int, int] = SIZE_HW) -> list[np.ndarray]:
    """Smooth colours, so that codecs keep them, which move, so that frames differ."""
    rows, columns = np.mgrid[: size_hw[0], : size_hw[1]]
    waves = [np.stack([rows + 9 * i, columns - 5 * i, rows + columns], axis=-1) / 25 for i in range(count)]
    return [(127 + 100 * np.sin(wave)).astype(np.uint8) for wave in waves]


def write_video(path: Path, frames: list[np.ndarray], codec: str = "libx264", **options: str) -> Path:
    """Video made by FFmpeg directly, not by the code under test."""
    with av.open(str(path), "w", options=options) as container:
        stream = container.add_stream(codec, rate=Fraction(25))
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode(None))
    return path


def write_images(folder: Path, frames: list[np.ndarray], name: str = "frame{}.png") -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / name.format(i + 1) for i in range(len(frames))]
    for path, frame in zip(paths, frames, strict=True):
        assert cv2.imwrite(str(path), frame[..., ::-1] if frame.ndim == 3 else frame)
    return paths


def test_a_video_gives_its_frames_size_and_rate(tmp_path):
    frames = make_frames(12)
    source = open_source([str(write_video(tmp_path / "a.mp4", frames))])
    assert (source.size_hw, source.fps, source.n_frames) == (SIZE_HW, 25, 12)
    with source:
        decoded = list(source)
    assert len(decoded) == 12
    assert all(frame.dtype == np.uint8 and frame.flags.c_contiguous for frame in decoded)
    assert max(np.abs(a.astype(int) - b).mean() for a, b in zip(decoded, frames, strict=True)) < 4
    assert len(list(source)) == 12, "a file can be read again"


def test_the_rotation_that_a_phone_notes_is_applied(tmp_path):
    path = write_video(tmp_path / "a.mp4", make_frames(3))
    (upright, *_) = open_source([str(path)])
    data = bytearray(path.read_bytes())
    matrix = data.index(b"tkhd") + 4 + 40
    clockwise = (0, 1 << 16, 0, -(1 << 16), 0, 0, 0, 0, 1 << 30)
    data[matrix : matrix + 36] = b"".join(number.to_bytes(4, "big", signed=True) for number in clockwise)
    path.write_bytes(data)
    source = open_source([str(path)])
    assert source.size_hw == SIZE_HW[::-1]
    turned = next(iter(source))
    np.testing.assert_array_equal(turned, np.rot90(upright, -1))
    path.with_suffix(".txt").write_text("1,1,9,9\n" * 3)
    (clip,) = read_videos(tmp_path)  # data sets are read elsewhere
    np.testing.assert_array_equal(clip.frames[0], turned)
    np.testing.assert_array_equal(next(iter(clip.frames)), turned)


@pytest.mark.parametrize(("name", "options"), [("a.mp4", {"movflags": "faststart"}), ("a.avi", {})])
def test_a_truncated_video_gives_what_it_has_and_says_how_much(tmp_path, caplog, name, options):
    path = write_video(tmp_path / name, make_frames(40), **options)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 7 // 10])
    source = open_source([str(path)])
    decoded = []
    with pytest.raises(InputError, match=r"is truncated: it ends after \d+ of 40 frames") as caught:  # noqa: PT012
        for frame in source:
            decoded.append(frame)
    assert 0 < len(decoded) < 40
    assert f"after {len(decoded)} of" in str(caught.value)
    assert "tracking goes on" not in caplog.text, "it does not"


def test_sound_that_goes_on_longer_is_only_reported(tmp_path, caplog):
    with av.open(str(tmp_path / "a.mkv"), "w") as container:
        stream = container.add_stream("mpeg4", rate=Fraction(25))
        stream.height, stream.width = SIZE_HW
        sound = container.add_stream("pcm_s16le", rate=8000)
        for frame in make_frames(25):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode(None))
        samples = av.AudioFrame.from_ndarray(np.zeros((1, 32000), np.int16), format="s16", layout="mono")
        samples.sample_rate = 8000
        container.mux(sound.encode(samples))
    assert len(list(open_source([str(tmp_path / "a.mkv")]))) == 25
    assert "ends after 1.0 of 4.0 seconds" in caplog.text


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.avi", "a.mov"])
@pytest.mark.parametrize("place", ["file", "stream"])
def test_titles_need_not_be_utf8(tmp_path, name, place):
    path = tmp_path / name
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=Fraction(25))
        stream.height, stream.width = SIZE_HW
        key = "handler_name" if name.endswith(("mp4", "mov")) and place == "stream" else "title"
        (container if place == "file" else stream).metadata[key] = "cafe noir"
        for frame in make_frames(3):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode(None))
    data = path.read_bytes()
    assert b"cafe noir" in data
    path.write_bytes(data.replace(b"cafe noir", "café noir".encode("latin-1")))
    assert len(list(open_source([str(path)]))) == 3


def test_damage_is_reported_even_when_the_decoder_conceals_it(tmp_path, caplog):
    path = write_video(tmp_path / "a.avi", make_frames(30), codec="mpeg4")
    data, rng = bytearray(path.read_bytes()), np.random.default_rng(0)
    assert not caplog.records
    for position in rng.integers(len(data) // 2, len(data) * 3 // 4, 20):
        data[position] ^= 0x55
    path.write_bytes(data)
    with caplog.at_level(logging.WARNING):
        assert len(list(open_source([str(path)]))) > 20
    assert re.search(r"is damaged near frame .*; tracking goes on", caplog.text)
    assert len([record for record in caplog.records if "damaged" in record.message]) == 1


def test_a_sound_video_is_read_without_a_warning(tmp_path, caplog):
    list(open_source([str(write_video(tmp_path / "a.mp4", make_frames(10)))]))
    assert not caplog.records


def test_a_video_that_changes_its_size_stops_there(tmp_path):
    parts = [write_video(tmp_path / f"{i}.ts", make_frames(8, size)) for i, size in enumerate([(96, 128), (64, 96)])]
    path = tmp_path / "both.ts"
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    decoded = []
    with pytest.raises(InputError, match=r"changes its size: frame 8 is 96 x 64 pixels, .* are 128 x 96"):  # noqa: PT012
        for frame in open_source([str(path)]):
            decoded.append(frame)
    assert len(decoded) == 8


def test_files_that_are_no_video_say_so(tmp_path):
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "text.mp4").write_text("not a video at all")
    cut = write_video(tmp_path / "cut.mp4", make_frames(5))
    cut.write_bytes(cut.read_bytes()[:-200])
    for name, reason in {"empty.mp4": "is empty", "text.mp4": "not a video", "cut.mp4": "cut short"}.items():
        with pytest.raises(InputError, match=reason):
            open_source([str(tmp_path / name)])


def test_an_unknown_codec_is_named_as_the_reason(tmp_path):
    path = write_video(tmp_path / "a.avi", make_frames(5), codec="mpeg4")
    path.write_bytes(path.read_bytes().replace(b"FMP4", b"ZZZZ"))
    with pytest.raises(InputError, match="no decoder"):
        open_source([str(path)])


def test_sound_alone_is_no_video(tmp_path):
    path = tmp_path / "sound.wav"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
    with pytest.raises(InputError, match="only audio"):
        open_source([str(path)])


def test_images_of_a_folder_come_in_natural_order(tmp_path):
    frames = make_frames(11)
    write_images(tmp_path, frames)
    (tmp_path / "notes.txt").write_text("no picture")
    source = open_source([str(tmp_path)])
    assert (source.n_frames, source.size_hw, source.groundtruth_xywh) == (11, SIZE_HW, None)
    np.testing.assert_array_equal(list(source), frames)
    np.testing.assert_array_equal(list(open_source([str(tmp_path / "frame*.png")])), frames)
    listed = sorted((str(path) for path in tmp_path.glob("*.png")), key=natural_key)
    np.testing.assert_array_equal(list(open_source(listed)), frames)


def test_hidden_files_are_no_frames(tmp_path):
    frames = make_frames(3)
    write_images(tmp_path, frames)
    for path in list(tmp_path.iterdir()):
        (tmp_path / f"._{path.name}").write_bytes(b"what a Macintosh leaves beside a file")
    np.testing.assert_array_equal(list(open_source([str(tmp_path)])), frames)


@pytest.mark.parametrize("suffix", [".tif", ".webp", ".png", ".gif"])
def test_a_file_of_several_pictures_gives_them_all(tmp_path, suffix):
    frames = make_frames(5)
    path = tmp_path / f"several{suffix}"
    bgr = [np.ascontiguousarray(frame[..., ::-1]) for frame in frames]
    if suffix == ".tif":
        assert cv2.imwritemulti(str(path), bgr)
    else:
        animation = cv2.Animation()
        animation.frames = [cv2.cvtColor(frame, cv2.COLOR_BGR2BGRA) for frame in bgr]
        animation.durations = np.full(5, 100, np.int32)
        assert cv2.imwriteanimation(str(path), animation)
    source = open_source([str(path)])
    seen = list(source)
    assert len(seen) == 5
    for image, frame in zip(seen, frames, strict=True):
        assert np.abs(image.astype(int) - frame).mean() < (30 if suffix == ".gif" else 8), "lossy or few colours"


def test_an_animation_without_times_gives_all_its_frames(tmp_path):
    """Two black and white pictures; blocks of GIF that tell delays may be left out."""
    header = b"GIF89a" + b"\x08\0\x08\0" + b"\x80\0\0"
    palette = bytes([0, 0, 0, 255, 255, 255])

    def picture(bit: int) -> bytes:
        """Each pixel as a code of three bits, with a clear code (4) before it so that no longer ones are needed."""
        bits = "".join(f"{code:03b}"[::-1] for _ in range(64) for code in (4, bit)) + "101"
        bits += "0" * (-len(bits) % 8)
        data = bytes(int(bits[i : i + 8][::-1], 2) for i in range(0, len(bits), 8))
        return b"\x2c" + b"\0" * 4 + b"\x08\0\x08\0\0" + b"\x02" + bytes([len(data)]) + data + b"\0"

    path = tmp_path / "a.gif"
    path.write_bytes(header + palette + picture(0) + picture(1) + picture(0) + b"\x3b")
    source = open_source([str(path)])
    assert [int(image.mean()) for image in source] == [0, 255, 0]
    assert source.fps == 10


def write_timed(path: Path, milliseconds: list[int]) -> Path:
    """Video whose frames are shown at those times."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=Fraction(1000))
        stream.height, stream.width, stream.pix_fmt = *SIZE_HW, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1000)
        for at, image in zip(milliseconds, make_frames(len(milliseconds)), strict=True):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base = at, Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_frames_have_the_times_of_the_file(tmp_path, suffix):
    milliseconds = [*range(0, 330, 33), *range(2330, 3330, 100)]
    source = open_source([str(write_timed(tmp_path / f"pause{suffix}", milliseconds))])
    frames = list(source.timed())
    np.testing.assert_allclose([frame.seconds for frame in frames], np.array(milliseconds) / 1000, atol=2e-3)
    assert [frame.number for frame in frames] == list(range(20))
    assert source.fps < 200, "not the ticks of the clock"


def test_frames_without_times_follow_each_other_at_the_rate(tmp_path):
    write_images(tmp_path, make_frames(4))
    np.testing.assert_allclose([frame.seconds for frame in open_source([str(tmp_path)]).timed()], np.arange(4) / 30)


def test_numbers_in_names_are_numbers():
    assert sorted(["f10", "f9", "F1", "f09b"], key=natural_key) == ["F1", "f9", "f09b", "f10"]


@pytest.mark.parametrize(
    ("name", "separator", "shift"),
    [("groundtruth_rect.txt", ",", 1), ("groundtruth_rect.txt", "\t", 1), ("groundtruth.txt", " ", 0)],
)
def test_the_boxes_beside_the_frames_are_read(tmp_path, name, separator, shift):
    write_images(tmp_path / ("img" if shift else "."), make_frames(3), "{:04d}.jpg")
    (tmp_path / name).write_text("".join(separator.join(map(str, (10 + i, 20, 30, 40))) + "\n" for i in range(3)))
    source = open_source([str(tmp_path)])
    np.testing.assert_array_equal(source.groundtruth_xywh, [[10 + i - shift, 20 - shift, 30, 40] for i in range(3)])
    assert source.n_frames == 3


def test_a_different_number_of_boxes_is_reported(tmp_path, caplog):
    write_images(tmp_path / "img", make_frames(3))
    (tmp_path / "groundtruth_rect.txt").write_text("1,1,5,5\n")
    source = open_source([str(tmp_path)])
    assert "1 boxes for 3 pictures" in caplog.text
    assert len(list(source)) == 3


def test_otb_sequences_that_begin_late_do_so(tmp_path):
    folder = tmp_path / "Football1"
    write_images(folder / "img", make_frames(80, (8, 8)), "{:04d}.png")
    (folder / "groundtruth_rect.txt").write_text("1,1,5,5\n" * 74)
    assert open_source([str(folder)]).n_frames == 74


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_grey_alpha_and_16_bits_become_rgb(tmp_path, suffix, dtype, channels):
    expected = make_frames(1)[0]
    if channels == 1:
        expected = np.repeat(expected[..., :1], 3, axis=-1)
    stored = expected.astype(dtype) * (257 if dtype is np.uint16 else 1)
    bgr = stored[..., ::-1]
    alpha = np.full((*SIZE_HW, 1), 3, dtype)
    picture = {1: stored[..., 0], 3: bgr, 4: np.concatenate([bgr, alpha], axis=-1)}[channels]
    path = tmp_path / f"a{suffix}"
    assert cv2.imwrite(str(path), picture)
    image = read_image(path)
    assert image.dtype == np.uint8
    np.testing.assert_array_equal(image, expected)


def test_pixels_between_0_and_1_become_8_bits(tmp_path):
    values = np.array([[0.0, 0.5, 1.0, 7.0, np.nan]], np.float32)
    assert cv2.imwrite(str(tmp_path / "a.tif"), np.stack([values] * 3, axis=-1))
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif")[0, :, 0], [0, 128, 255, 255, 0])


def test_a_picture_that_cannot_be_read_ends_the_frames_before_it(tmp_path):
    paths = write_images(tmp_path, make_frames(5))
    data = paths[3].read_bytes()
    for content, reason in ((b"", "is empty"), (b"no picture", "damaged"), (data[: len(data) // 2], "cut short")):
        paths[3].write_bytes(content)
        decoded = []
        with pytest.raises(InputError, match=rf"frame4.png .*{reason}"):  # noqa: PT012
            for frame in open_source([str(tmp_path)]):
                decoded.append(frame)
        assert len(decoded) == 3
    paths[3].unlink()
    with pytest.raises(InputError, match=r"frame4.png cannot be read"):
        list(open_source(list(map(str, paths))))


def test_pictures_of_different_sizes_stop_the_frames(tmp_path):
    write_images(tmp_path, [*make_frames(2), make_frames(1, (50, 60))[0]])
    with pytest.raises(InputError, match="frame 2 is 60 x 50 pixels, the frames before it are 128 x 96"):
        list(open_source([str(tmp_path)]))


def test_inputs_that_are_not_there_say_so(tmp_path):
    (tmp_path / "folder").mkdir()
    for text, reason in {
        str(tmp_path / "none.mp4"): "there is no file or folder",
        str(tmp_path / "*.png"): "no file matches",
        str(tmp_path / "folder"): "holds no pictures",
        "97": "camera 97 cannot be opened",
    }.items():
        with pytest.raises(InputError, match=reason):
            open_source([text])


def test_prefetching_keeps_the_order_and_passes_errors_on():
    def count():
        yield from range(20)
        raise InputError("no more")

    seen = []
    with pytest.raises(InputError, match="no more"):  # noqa: PT012
        for item in prefetch(count(), depth=4):
            seen.append(item)
    assert seen == list(range(20))


def test_prefetching_works_ahead_but_not_far_and_stops_when_closed():
    produced = []
    reached = threading.Event()

    def count():
        for item in range(100):
            produced.append(item)
            if item == 3:
                reached.set()
            yield item

    items = prefetch(count(), depth=3)
    assert next(items) == 0
    assert reached.wait(5), "the background thread prepares three items more"
    items.close()
    assert len(produced) <= 5
    assert not any(thread.name.startswith("prefetch") for thread in threading.enumerate())


def test_damage_is_noticed_in_the_background_too(tmp_path, caplog):
    path = write_video(tmp_path / "a.avi", make_frames(30), codec="mpeg4")
    data = bytearray(path.read_bytes())
    for position in np.random.default_rng(0).integers(len(data) // 2, len(data) * 3 // 4, 20):
        data[position] ^= 0x55
    path.write_bytes(data)
    list(prefetch(VideoFile(path)))
    assert "is damaged near frame" in caplog.text


def test_frames_in_memory_are_a_source():
    frames = make_frames(4)
    with MemoryFrames("clip", frames, groundtruth_xywh=np.ones((4, 4), np.float32)) as source:
        assert (source.n_frames, source.size_hw) == (4, SIZE_HW)
        assert all(a is b for a, b in zip(source, frames, strict=True))
