"""Whether a video file ends where its container's structure says, or was cut before: FFmpeg reads both alike.

Most containers are a chain of parts, each with its length in front. In a whole file the last part ends with the file.
A cut that happens to fall between two parts leaves no trace where nothing says how many there are. Bytes behind the
last part that are none themselves are left alone, as FFmpeg does.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

MP4_BOXES = b"ftyp styp moov moof mdat free skip wide pnot udta uuid meta mfra sidx ssix prft emsg pdin".split()
"""kinds at the top level"""
MATROSKA_SEGMENT = 0x18538067
GIF_EXTENSION, GIF_IMAGE, GIF_END = b"\x21", b"\x2c", b"\x3b"
TS_PACKETS = ((188, 0), (192, 4), (204, 0))
"""length of an MPEG-TS packet, and where in it the sync byte is"""
TS_SYNC = 0x47


def ends_whole(path: Path, kind: str) -> bool | None:
    """Whether the file's last part is all there; None if its container does not tell.

    Args:
        path: the file.
        kind: its container, as FFmpeg names it.
    """
    walk = WALKS.get(kind)
    if walk is None or not path.is_file():
        return None
    with path.open("rb") as file:
        try:
            return walk(_Parts(file, path.stat().st_size))
        except EOFError:
            return False


class _Parts:
    """File that raises EOFError where something should follow, but does not."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self.file, self.size = file, size

    @property
    def left(self) -> int:
        """Bytes up to the end."""
        return self.size - self.file.tell()

    def take(self, count: int) -> bytes:
        """The next bytes."""
        data = self.file.read(count)
        if len(data) < count:
            raise EOFError
        return data

    def number(self, count: int) -> int:
        """The next bytes as a number, the most significant first."""
        return int.from_bytes(self.take(count), "big")

    def skip(self, count: int) -> None:
        """Go on behind the next bytes."""
        if count > self.left:
            raise EOFError
        self.file.seek(count, 1)


def _mp4(parts: _Parts) -> bool:
    while parts.left:
        length, kind = parts.number(4), parts.take(4)
        header = 16 if length == 1 else 8
        length = parts.number(8) if length == 1 else length
        if kind not in MP4_BOXES or length < header:  # 0: up to the end, wherever that is
            break
        parts.skip(length - header)
    return True


def _matroska(parts: _Parts) -> bool:
    def number() -> tuple[int, int]:
        """A number with the leading 1 that tells its length, and how many bits follow that."""
        first = parts.number(1)
        more = 8 - first.bit_length()
        return first << 8 * more | parts.number(more), 7 * (more + 1)

    while parts.left:
        element, bits = number()
        if bits > 28:
            break  # no element has so long a name
        length, bits = number()
        if bits > 56:
            break  # damaged: no number is so long
        if length == (2 << bits) - 1:
            continue  # unknown, as browsers and live streams write it: the next part is the first one inside
        parts.skip(length - (1 << bits))
        if element == MATROSKA_SEGMENT:
            break
    return True


def _gif(parts: _Parts) -> bool:
    def colours(flags: int) -> None:
        parts.skip(3 << (flags & 7) + 1 if flags & 0x80 else 0)

    colours(parts.take(13)[10])
    while (block := parts.take(1)) != GIF_END:
        if block == GIF_IMAGE:
            colours(parts.take(9)[8])
        if block in (GIF_IMAGE, GIF_EXTENSION):
            parts.skip(1)
            while length := parts.number(1):
                parts.skip(length)
    return True


def _mpegts(parts: _Parts) -> bool | None:
    start = parts.file.read(16 * 204)
    for length, sync in TS_PACKETS:
        for first in range(length):
            if len(marks := start[first + sync :: length]) > 8 and set(marks) == {TS_SYNC}:
                over = (parts.size - first) % length
                parts.file.seek(parts.size - over + sync)
                return False if over > sync and parts.number(1) == TS_SYNC else None
    return None


def _asf(parts: _Parts) -> bool | None:
    while parts.left:
        parts.skip(16)
        length = int.from_bytes(parts.take(8), "little")
        if length < 24:  # of a stream that was live
            return None
        parts.skip(length - 24)
    return True


def _flv(parts: _Parts) -> bool:
    parts.skip(5)
    parts.skip(parts.number(4) - 9)
    while parts.left:
        parts.skip(4)  # length of the tag before
        if parts.left:
            parts.skip(1)
            parts.skip(parts.number(3) + 7)
    return True


def _ogg(parts: _Parts) -> bool:
    while parts.left:
        header = parts.take(27)
        if not header.startswith(b"OggS"):
            break
        parts.skip(sum(parts.take(header[26])))
    return True


def _mxf(parts: _Parts) -> bool:
    while parts.left:
        if not parts.take(16).startswith(b"\x06\x0e\x2b\x34"):
            break
        length = parts.number(1)
        parts.skip(length if length < 0x80 else parts.number(length - 0x80))
    return True


WALKS: dict[str, Callable[[_Parts], bool | None]] = {
    "mov,mp4,m4a,3gp,3g2,mj2": _mp4,
    "matroska,webm": _matroska,
    "gif": _gif,
    "mpegts": _mpegts,
    "asf": _asf,
    "flv": _flv,
    "ogg": _ogg,
    "mxf": _mxf,
}
