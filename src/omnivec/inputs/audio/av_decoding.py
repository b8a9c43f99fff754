"""Decodes the formats that libsndfile does not: M4A, AAC, WMA, WebM and the sound of videos, with PyAV (FFmpeg).

PyAV only decodes. Its converters are not used: they mix channels at another level, and leave aliases of -22 dB.
The demuxer is chosen by the first bytes of a file, so that no playlist can make FFmpeg open other files or addresses.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from omnivec.errors import ItemError
from omnivec.types import Floats
from omnivec.validation.reasons import one_line

if TYPE_CHECKING:
    import av

_SETTLING = 1.0
"""Seconds that are decoded before a position which is sought: decoders need some frames to arrive at their state."""

_NEAR = 10.0
"""Seconds from the start up to which nothing is sought: decoding them takes 20 ms."""

_DURATION = re.compile(r"(\d+):(\d\d):(\d\d(?:\.\d+)?)")
_SCALES = {"s16": (2.0**15, 0), "s32": (2.0**31, 0), "u8": (2.0**7, 128)}
_HEADED = ("mov", "matroska", "asf")
"""Demuxers whose duration is that of the header; others estimate it from the bit rate."""


class AvDecoder:
    """An open file that FFmpeg decodes; see `decoding.Decoder`.

    Position 0 is the first sample of the first audio stream, which in a video may begin later than the pictures.
    """

    def __init__(self, file: IO[bytes], demuxer: str, name: str) -> None:
        self._file, self._demuxer, self.format = file, demuxer, name
        self.rate = self.channels = 0
        self.frames: int | None = None
        self._end: int | None = None
        self._container: Any = None
        self._stream: Any = None
        self._frames: Iterator[Any] = iter(())
        self._position = 0
        self._rest: Floats = np.zeros((0, 0), np.float32)

    def start(self) -> None:
        """Opens the file, and decodes the first frame, which may have twice the rate of the header."""
        self._begin()
        first = self._next()
        if first is None:
            raise ItemError(f"has no samples ({self.format}): its length is zero")
        self.rate, self.channels = int(first.sample_rate), int(first.layout.nb_channels)
        self._rest = floats(first)
        duration = self._duration() if self._demuxer in _HEADED else None
        self.frames = None if duration is None else round(duration * self.rate)
        # What comes after the duration of MP4, which is in samples, is the encoder's padding.
        exact = self._demuxer == "mov" and self._stream.time_base * self.rate <= 1
        self._end = self.frames if exact else None

    @classmethod
    @contextmanager
    def opened(cls, file: IO[bytes], demuxer: str, name: str) -> Iterator[AvDecoder]:
        """Yields a decoder of an open file.

        Args:
            file: the file.
            demuxer: FFmpeg's name of the format.
            name: its name for users, such as "M4A".

        Raises:
            ItemError: PyAV is not installed, or the file has no sound, or is damaged.
        """
        try:
            import av
        except ImportError as error:
            raise ItemError(f"{name} is decoded with PyAV: pip install 'omnivec[video]'") from error
        decoder = cls(file, demuxer, name)
        try:
            decoder.start()
            yield decoder
        except av.FFmpegError as error:
            raise ItemError(
                f"its header is damaged or cut off ({_reason(error)}); copy it again from where it came"
            ) from error
        finally:
            if decoder._container is not None:
                decoder._container.close()

    def read(self, frames: int) -> Floats:
        """Decodes the next frames (n, channels) float32; fewer than asked for only at the end."""
        import av

        if self._end is not None:
            frames = max(0, min(frames, self._end - self._position))
        pieces, count = [self._rest[:frames]], min(frames, len(self._rest))
        self._rest = self._rest[frames:]
        while count < frames:
            try:
                frame = self._next()
            except av.FFmpegError as error:
                raise ItemError(_reason(error)) from error
            if frame is None:
                break
            block = floats(frame)
            pieces.append(block[: frames - count])
            self._rest = block[frames - count :]
            count += len(pieces[-1])
        self._position += count
        return np.concatenate(pieces)

    def seek(self, frame: int) -> None:
        """Continues at a frame, counted from 0; what follows is equal to that part of the whole."""
        import av

        if frame > _NEAR * self.rate:
            # Some formats cannot be decoded from where FFmpeg arrives, the middle of a packet.
            with suppress(av.FFmpegError, ItemError):
                if self._sought(frame):
                    return
            self._begin()
        while self._position < frame and len(self.read(min(frame - self._position, 2**16))):
            pass

    def _begin(self) -> None:
        """Opens the file, and continues at its start."""
        import av

        if self._container is not None:
            self._container.close()
        self._file.seek(0)
        self._container = av.open(self._file, format=self._demuxer, metadata_errors="ignore")
        if not self._container.streams.audio:
            raise ItemError(f"{self.format} without sound: it has only pictures or texts")
        self._stream = self._container.streams.audio[0]
        self._frames = self._container.decode(self._stream)
        self._position = 0
        self._rest = np.zeros((0, self.channels), np.float32)

    def _sought(self, frame: int) -> bool:
        """Seeks to some time before a frame, and decodes up to it; False if it cannot be told where it arrives.

        Times are often whole milliseconds: Opus in WebM has frames of 960 samples at 48 kHz, after a first one of 648.
        The time 20.014 s stands for a sample from 960,648 to 960,696; a frame can begin at 648 + 1000 * 960 = 960,648.
        """
        self._begin()
        first, second = self._next(), self._next()
        if first is None or second is None or first.pts is None:
            return False
        tick, size = self._stream.time_base * self.rate, second.samples
        target = first.pts + int((frame - _SETTLING * self.rate) / tick)
        self._container.seek(target, stream=self._stream)
        self._frames = self._container.decode(self._stream)
        current = self._next()
        if current is None or current.pts is None:
            return False
        position = (current.pts - first.pts) * tick
        if tick != 1:
            place = first.samples + round((position - first.samples) / size) * size
            if abs(place - position) > tick:
                return False
            position = place
        if position > frame:
            return False
        while position + current.samples <= frame:
            position += current.samples
            current = self._next()
            if current is None or (tick != 1 and current.samples != size):
                return False
        self._position, self._rest = frame, floats(current)[frame - int(position) :]
        return True

    def _next(self) -> Any:
        """The next decoded frame; None at the end."""
        frame = next(self._frames, None)
        if frame is not None and self.rate:
            rate, channels = frame.sample_rate, frame.layout.nb_channels
            if (rate, channels) != (self.rate, self.channels):
                raise ItemError(
                    f"its {self.channels} channels of {self.rate:,} Hz become {channels} of {rate:,} Hz there"
                )
        return frame

    def _duration(self) -> float | None:
        """Seconds of the sound by the header; None if it does not say."""
        stream, container = self._stream, self._container
        if stream.duration is not None and stream.time_base is not None:
            return float(stream.duration * stream.time_base)
        match = _DURATION.match(stream.metadata.get("DURATION", ""))
        if match:
            return 3600 * int(match[1]) + 60 * int(match[2]) + float(match[3])
        if container.duration is not None and len(container.streams) == 1:
            return float(container.duration / 1e6)
        return None


def floats(frame: Any) -> Floats:
    """Returns the samples (n, channels) of PyAV's frame as float32; integers are scaled to [-1, 1]."""
    name = frame.format.name
    values = frame.to_ndarray()
    values = values.T if frame.format.is_planar else values.reshape(-1, frame.layout.nb_channels)
    scale = _SCALES.get(name.removesuffix("p"))
    if scale is None:
        return np.asarray(values, np.float32)
    divisor, zero = scale
    return np.asarray((values.astype(np.float32) - np.float32(zero)) / np.float32(divisor), np.float32)


def _reason(error: av.FFmpegError) -> str:
    return error.strerror or one_line(error)
