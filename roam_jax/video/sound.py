"""The sound of the input in the result's video."""

from __future__ import annotations

from collections.abc import Iterator

import av
from av.container import InputContainer, OutputContainer
from av.error import FFmpegError

from roam_jax.video.source import Sound

CODEC = "aac"
"""that every player of MP4 files has"""
OVERLAP = 0.002
"""seconds that pieces may overlap: clocks tick in milliseconds"""


class SoundTrack:
    """Sound of a file in another one, encoded again a piece at a time.

    What cannot be decoded is left out: nobody tracks by ear.

    Attributes:
        begins: second of the file that is the output's first; may be changed before anything is written.
    """

    def __init__(self, sound: Sound, output: OutputContainer) -> None:
        """Add a stream for it to a container that nothing was written to yet.

        Args:
            sound: it.
            output: where to.

        Raises:
            FFmpegError: the file has no sound that can be decoded.
        """
        self.path, self.begins, self.output = sound.path, sound.begins, output
        self.input = av.open(str(self.path), metadata_errors="replace")
        source = self.input.streams.audio[0]
        given = source.codec_context.sample_rate
        rate = min(av.Codec(CODEC, "w").audio_rates or [given], key=lambda rate: abs(rate - given))
        self.stream = output.add_stream(CODEC, rate=rate)
        self.stream.layout = "stereo" if source.codec_context.channels > 1 else "mono"
        self.resampler = av.AudioResampler(format="fltp", layout=self.stream.layout, rate=rate)
        self.pieces = self._decode()
        self.waiting: av.AudioFrame | None = None

    def write_until(self, seconds: float) -> None:
        """Write what is heard before that second of the output."""
        while (piece := self.waiting or next(self.pieces, None)) is not None:
            if piece.time is not None and piece.time >= seconds:
                self.waiting = piece
                return
            self.waiting = None
            self.output.mux(self.stream.encode(piece))

    def close(self) -> None:
        """Write what the encoder still holds."""
        self.output.mux(self.stream.encode(None))
        self.input.close()

    def _decode(self) -> Iterator[av.AudioFrame]:
        """Pieces of sound, timed as in the output; what lies before its first second is left out."""
        try:
            if self.begins > 1:
                self.input.seek(int((self.begins - 1) * av.time_base))
            heard = self.begins + OVERLAP
            for frame in self.input.decode(audio=0):
                if frame.time is None or frame.time < heard - OVERLAP:
                    continue  # before the first frame, or a damaged clock that goes back, which FFmpeg would refuse
                heard = frame.time + frame.samples / frame.sample_rate
                for piece in self.resampler.resample(frame):
                    if piece.pts is not None and piece.time_base is not None:
                        piece.pts -= round(self.begins / piece.time_base)
                    yield piece
        except FFmpegError:
            return


def has_sound(container: InputContainer) -> bool:
    """Whether an opened file has sound that can be decoded."""
    return bool(container.streams.audio) and container.streams.audio[0].codec_context is not None
