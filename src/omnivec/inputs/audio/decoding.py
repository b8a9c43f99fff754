"""Decodes sound files to samples at their own rate: with libsndfile, or with FFmpeg where the extra `[video]` is there.

A format is recognised by the first bytes of a file, never by its name. `open_sound` reads only the header; samples are
decoded as they are read, so that a header that declares too much allocates nothing. MP3 files and most others are read
through one handle from the start to the end of an extent, because a decoder loses its state when it seeks.
"""

from __future__ import annotations

import functools
import io
import os
import sys
from collections.abc import Hashable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Protocol

import numpy as np

from omnivec.errors import ItemError
from omnivec.inputs.audio.idle_decoders import IdleDecoders
from omnivec.inputs.files.regular import open_regular
from omnivec.types import Audio, Floats
from omnivec.validation.reasons import LeftOut, one_line

if TYPE_CHECKING:
    import soundfile

_SECOND = {b"RIFF": ("wav", "WAV"), b"OggS": ("ogg", "OGG"), b"caff": ("caf", "CAF")}
"""Demuxers of files whose codec libsndfile may not have, by their first bytes."""

HEAD = 400
"""Number of leading bytes by which a format is recognised: MPEG-TS repeats a byte every 188."""

MIN_RATE, MAX_RATE = 100, 768_000
"""Sampling rates in Hz: others are the mistakes of a damaged header."""

LOUDEST = 16.0
"""Largest absolute sample: floats somewhat beyond [-1, 1] occur in files, but 16-bit values are no such floats."""

_DENSEST = 4096
"""Largest number of frames that a byte of a file can hold: silence in FLAC, Vorbis and Opus stays below it."""

_MP3_LENGTHS = (b"Xing", b"Info", b"VBRI")
"""Marks of the first frame of an MP3 file that holds the number of frames."""

_PASSED = 2**16
"""Number of frames that are decoded at a time before the position that is sought."""

_UNKNOWN = 0x7FFF_F000
"""Sizes of samples in a WAV header, from here on, that stand for "until the end"."""

_CHUNKS = 1000
"""Number of chunks of a file among which its samples are looked for."""

_CONTAINERS = {
    b"\x1a\x45\xdf\xa3": ("matroska", "Matroska"),
    b"\x30\x26\xb2\x75\x8e\x66\xcf\x11": ("asf", "WMA"),
    b"\0\0\x01\xba": ("mpeg", "MPEG"),
    b"FLV\x01": ("flv", "FLV"),
    b"#!AMR": ("amr", "AMR"),
    b"OggS": ("ogg", "OGG"),
}
_NAMES = {"OGG": "OGG", "WAVEX": "WAV", "RF64": "WAV", "W64": "WAV", "CAF": "CAF", "AU": "AU"}
_FORMATS = (
    "WAV, FLAC, OGG, Opus, MP3, AIFF, CAF and AU; with the extra [video] also M4A, AAC, WMA, WebM and videos"
)


class Decoder(Protocol):
    """An open sound.

    Attributes:
        rate: sampling rate in Hz.
        channels: number of channels.
        frames: number of samples per channel by the header; None if it is not known.
        format: name of the format, such as "WAV".
    """

    rate: int
    channels: int
    frames: int | None
    format: str

    def seek(self, frame: int) -> None:
        """Continues at a frame, counted from 0; what follows is equal to that part of the whole."""

    def read(self, frames: int) -> Floats:
        """Decodes the next frames (n, channels) float32; fewer than asked for only at the end."""


_IDLE: IdleDecoders[Decoder] = IdleDecoders(4)


@contextmanager
def open_sound(source: Path | bytes | Audio, reuse: bool = False) -> Iterator[Decoder]:
    """Yields a decoder of a file, of its bytes, or of sound in memory, whose header was read, at its first frame.

    Args:
        source: what is decoded.
        reuse: whether the decoder of an MP3 file may be one that has read another part of it, and stays open for the
            next. Samples then depend on what it has read before, by 6e-8: the order in which mpg123 adds.

    Raises:
        ItemError: it is not a sound, or its header cannot be read; the message does not name it.
        MissingExtra: it is decoded with PyAV, which is not installed.
    """
    key = _version(source) if reuse and isinstance(source, Path) else None
    idle = None if key is None else _IDLE.take(key)
    stack, decoder = idle or _open(source)
    try:
        if idle is not None:
            decoder.seek(0)
        yield decoder
    except BaseException:
        if not stack.__exit__(*sys.exc_info()):
            raise
    else:
        if key is not None and decoder.format == "MP3":
            _IDLE.give(key, stack, decoder)
        else:
            stack.close()


def _open(source: Path | bytes | Audio) -> tuple[ExitStack, Decoder]:
    """Opens a decoder; returns it with what closes it."""
    stack = ExitStack()
    return stack, stack.enter_context(_opened(source))


def _version(path: Path) -> Hashable:
    """Identifies a file and its content: equal as long as it is not changed; None if it cannot be read."""
    try:
        status = path.stat()
    except (OSError, ValueError):
        return None
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


@contextmanager
def _opened(source: Path | bytes | Audio) -> Iterator[Decoder]:
    if isinstance(source, Audio):
        yield ArrayDecoder(source)
        return
    with io.BytesIO(source) if isinstance(source, bytes) else open_regular(source, "a sound file") as file:
        head = file.read(HEAD)
        size = file.seek(0, os.SEEK_END)
        file.seek(0)
        if not head:
            raise LeftOut("empty", "empty (0 bytes): there is no sound in it")
        container = of_container(head)
        if of_libsndfile(head):
            with _of_soundfile(file, head, size) as decoder:
                yield decoder
        elif container is not None:
            from omnivec.inputs.audio.av_decoding import AvDecoder

            with AvDecoder.opened(file, *container) as decoder:
                refuse_rate(decoder.rate)
                yield decoder
        else:
            raise LeftOut(
                "no sound",
                f"not a sound: it begins with {head[:12]!r}; formats are {_FORMATS}. Samples without a header: read "
                "them with NumPy, and give Audio(samples, rate)",
            )


@contextmanager
def _of_soundfile(file: IO[bytes], head: bytes, size: int) -> Iterator[Decoder]:
    """Yields a decoder by libsndfile, or by FFmpeg of a codec that only that has, such as Speex in OGG."""
    missing = _missing(file, head, size)
    file.seek(0)
    with ExitStack() as stack:
        try:
            decoder: Decoder = stack.enter_context(SoundfileDecoder.opened(file, size))
        except ItemError as error:
            container = _SECOND.get(head[:4])
            if container is None:
                raise
            from omnivec.inputs.audio.av_decoding import AvDecoder

            try:
                decoder = stack.enter_context(AvDecoder.opened(file, *container))
            except ItemError:
                raise error from error.__cause__
        refuse_rate(decoder.rate)
        if missing is not None and decoder.frames:
            refuse_cut(decoder.frames, round(decoder.frames / missing), decoder.rate)
        yield decoder


def is_sound(head: bytes) -> bool:
    """Whether the first bytes of a file, 64 or more, are those of a format that holds sound alone.

    MP4, Matroska, WebM, ASF and the like are not: they may hold films, whose sound `open_sound` decodes nevertheless.
    """
    container = of_container(head)
    return of_libsndfile(head) or (container is not None and container[1] in ("M4A", "AAC", "AMR"))


def of_libsndfile(head: bytes) -> bool:
    """Whether the first bytes of a file are those of a format that libsndfile decodes."""
    kind = head[8:12]
    if head[:4] in (b"RIFF", b"RIFX", b"RF64"):
        return kind == b"WAVE"
    if head[:4] == b"FORM":
        return kind in (b"AIFF", b"AIFC")
    if head[:4] == b"OggS":
        return b"theora" not in head  # the first stream of a film
    return head[:4] in (b"fLaC", b"caff", b".snd") or head[:3] == b"ID3" or _is_mpeg(head)


def of_container(head: bytes) -> tuple[str, str] | None:
    """FFmpeg's demuxer of a file and the name of its format, by its first bytes; None if it is none that is known."""
    if head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide"):
        return "mov", "M4A" if head[8:11] == b"M4A" else "MP4"
    if len(head) > 2 and head[0] == 0xFF and head[1] & 0xF6 == 0xF0 and head[2] >> 2 & 15 < 13:
        return "aac", "AAC"
    if head[:4] == b"RIFF" and head[8:12] == b"AVI ":
        return "avi", "AVI"
    if head[:4] == b"\x1a\x45\xdf\xa3" and b"webm" in head[:64]:
        return "matroska", "WebM"
    if len(head) == HEAD and head[0] == head[188] == head[376] == 0x47:
        return "mpegts", "MPEG-TS"
    return next(
        (container for beginning, container in _CONTAINERS.items() if head.startswith(beginning)), None
    )


def _is_mpeg(head: bytes) -> bool:
    """Whether bytes begin with a frame header of MPEG audio, layer II or III.

    Layer I is left out: its headers begin with FF FE or FF FF, as texts in UTF-16 and empty flash memory do.
    """
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE0 != 0xE0:
        return False
    version, layer = head[1] >> 3 & 3, head[1] >> 1 & 3
    bitrate, rate = head[2] >> 4, head[2] >> 2 & 3
    return version != 1 and layer in (1, 2) and 0 < bitrate < 15 and rate != 3


class SoundfileDecoder:
    """An open file that libsndfile decodes; see `Decoder`."""

    def __init__(self, handle: soundfile.SoundFile, file: _Readable) -> None:
        self._handle, self._file = handle, file
        self.rate, self.channels = int(handle.samplerate), int(handle.channels)
        self.format = "Opus" if handle.subtype == "OPUS" else _NAMES.get(handle.format, handle.format)
        self.frames: int | None = None
        self._position = 0

    @classmethod
    @contextmanager
    def opened(cls, file: IO[bytes], size: int) -> Iterator[SoundfileDecoder]:
        """Yields a decoder of an open file of `size` bytes."""
        try:
            import soundfile
        except OSError as error:  # where the wheel of soundfile has no library
            raise ItemError(
                f"sounds are decoded with libsndfile, which is not found ({one_line(error)}): install it, as with apt "
                "install libsndfile1"
            ) from error
        first = _after_tags(file)
        readable = _Readable(file)
        try:
            with soundfile.SoundFile(readable) as handle:
                # soundfile seeks to the current position after each read if it can, which resets the MP3 decoder: the
                # samples of blocks would differ from those of the whole file by up to 0.5.
                handle.seekable = lambda: False
                decoder = cls(handle, readable)
                decoder.frames = decoder._declared(first, size)
                yield decoder
        except soundfile.LibsndfileError as error:
            readable.raise_error()
            raise ItemError(
                f"its header is damaged or cut off, or its codec unknown ({_reason(error)}; {size:,} bytes); copy it "
                "again from where it came, or convert it to WAV"
            ) from error

    def seek(self, frame: int) -> None:
        """Continues at a frame, counted from 0."""
        import soundfile

        try:
            self._position = self._settled(frame)
            self._handle.seek(self._position)
        except soundfile.LibsndfileError as error:
            self._file.raise_error()
            raise ItemError(
                f"cannot be decoded from {frame / self.rate:.1f} s on ({_reason(error)})"
            ) from error
        while self._position < frame and len(self.read(min(frame - self._position, _PASSED))):
            pass

    def read(self, frames: int) -> Floats:
        """Decodes the next frames (n, channels) float32; fewer than asked for only at the end."""
        import soundfile

        if (
            self.frames is not None
        ):  # libsndfile fills what it cannot read with zeros, and soundfile drops them
            frames = max(0, min(frames, self.frames - self._position))
        if not frames:
            return np.zeros((0, self.channels), np.float32)
        try:
            block: Floats = self._handle.read(frames, dtype="float32", always_2d=True)
        except soundfile.LibsndfileError as error:
            self._file.raise_error()
            raise ItemError(_reason(error)) from error
        self._file.raise_error()
        self._position += len(block)
        return block

    def _settled(self, frame: int) -> int:
        """The frame to seek to, so that from `frame` on the samples are those of the whole file."""
        if self.format == "MP3":
            # A frame refers to up to 511 bytes before it: half a second of the lowest bit rate.
            return max(0, frame - self.rate)
        if self.format == "OGG":
            # In the last page of Vorbis, which may be seconds long, libsndfile arrives elsewhere.
            return min(frame, max(0, (self.frames or 0) - 30 * self.rate))
        return frame

    def _declared(self, head: bytes, size: int) -> int | None:
        """Number of frames by the header; None if it is unknown, or more than a file of `size` bytes can hold."""
        if self.format == "MP3" and not any(mark in head for mark in _MP3_LENGTHS):
            return (
                None  # libsndfile then estimates it from the size of the file, pictures in its tags included
            )
        frames = int(self._handle.frames)
        return frames if 0 <= frames <= size * _DENSEST else None


def _reason(error: soundfile.LibsndfileError) -> str:
    reason = str(error.error_string).strip().rstrip(".")
    # What libsndfile says of a file that is there, but whose MP3 frames it cannot find.
    return "no frame of MP3 is found" if reason.startswith("File does not exist") else reason


class _Readable:
    """A file for libsndfile's callbacks, in which no exception may be raised: the first one is kept for the caller."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._error: Exception | None = None

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        try:
            return self._file.seek(offset, whence)
        except Exception as error:
            return self._failed(error)

    def tell(self) -> int:
        return self._file.tell()

    def readinto(self, buffer: Any) -> int:
        try:
            return self._file.readinto(buffer)  # type: ignore[attr-defined, no-any-return]
        except Exception as error:
            return self._failed(error)

    def raise_error(self) -> None:
        """Raises the error of the system because of which libsndfile could not read on."""
        if isinstance(self._error, OSError):
            raise self._error

    def _failed(self, error: Exception) -> int:
        self._error = self._error or error
        return 0


class ArrayDecoder:
    """Sound in memory; see `Decoder`."""

    format = "samples"

    def __init__(self, audio: Audio) -> None:
        self._samples = audio.samples if audio.samples.ndim == 2 else audio.samples[:, None]
        self.rate, self.channels = int(audio.rate), self._samples.shape[1]
        self.frames: int | None = len(self._samples)
        self._position = 0

    def seek(self, frame: int) -> None:
        """Continues at a frame, counted from 0."""
        self._position = frame

    def read(self, frames: int) -> Floats:
        """Returns the next frames (n, channels) float32; fewer than asked for only at the end."""
        block = self._samples[self._position : self._position + frames]
        self._position += len(block)
        return scaled(block)


def scaled(samples: Any) -> Floats:
    """Returns floats, int16 or int32 as float32; integers are divided by 2 ** 15 or 2 ** 31."""
    if samples.dtype.kind == "f":
        return np.asarray(samples, np.float32)
    result = samples.astype(np.float32)
    result /= 2.0 ** (8 * samples.dtype.itemsize - 1)
    return result  # type: ignore[no-any-return]


def mono(block: Floats) -> Floats:
    """Returns the mean (n,) of all channels of a block (n, channels), as librosa computes it."""
    if block.shape[1] == 1:
        return block[:, 0]
    total = block[:, 0] + block[:, 1]
    for channel in range(2, block.shape[1]):
        total += block[:, channel]
    total /= np.float32(block.shape[1])
    return total


def refuse_values(samples: Floats, first: int, rate: int) -> None:
    """Refuses samples (n,) that are not finite, or far outside [-1, 1]; `first` is the position of samples[0]."""
    peak = max(samples.max(initial=0.0), -samples.min(initial=0.0))
    if peak <= LOUDEST:  # False for NaN
        return
    wrong = int(np.argmax(~(np.abs(samples) <= LOUDEST)))
    value, place = float(samples[wrong]), f"sample {first + wrong:,} ({(first + wrong) / rate:.3f} s)"
    if not np.isfinite(value):
        raise ItemError(f"{place} is {value}, not a number in [-1, 1]: repair the sound, or cut it out")
    raise ItemError(
        f"{place} is {value:,.1f}, but floats are in [-1, 1]: divide values of 16 bits by 32768, or normalise them"
    )


def refuse_cut(frames: int, declared: int, rate: int) -> None:
    """Refuses a sound that has fewer frames than its header declares, beyond what decoders differ in."""
    if declared - frames > min(0.25 * rate, 0.1 * declared):
        raise ItemError(
            f"lasts {frames / rate:.1f} s, but its header says {declared / rate:.1f} s: cut off; copy it again from "
            "where it came"
        )


def refuse_rate(rate: int) -> None:
    """Refuses a sampling rate outside of `MIN_RATE` to `MAX_RATE`."""
    if not MIN_RATE <= rate <= MAX_RATE:
        raise ItemError(f"a sampling rate of {rate:,} Hz: must be from {MIN_RATE:,} to {MAX_RATE:,} Hz")


def _after_tags(file: IO[bytes]) -> bytes:
    """The first bytes of a file after tags in ID3; it is left at its start."""
    file.seek(0)
    head = file.read(10)
    while head[:3] == b"ID3" and len(head) == 10:
        size = functools.reduce(lambda total, byte: total << 7 | byte & 0x7F, head[6:], 0)
        file.seek(size, os.SEEK_CUR)
        head = file.read(10)
    head += file.read(HEAD)
    file.seek(0)
    return head


def _missing(file: IO[bytes], head: bytes, size: int) -> float | None:
    """Share of the samples that a WAV or AIFF file declares which is there; None unless some are missing.

    libsndfile reads such a file as if its header declared what is there.

    Raises:
        ItemError: all are missing.
    """
    if head[:4] not in (b"RIFF", b"RIFX", b"RF64", b"FORM"):
        return None
    order: Any = "little" if head[:4] in (b"RIFF", b"RF64") else "big"
    position, long = 12, 0
    for _ in range(_CHUNKS):
        file.seek(position)
        chunk = file.read(24)
        if len(chunk) < 8:
            break
        length = int.from_bytes(chunk[4:8], order)
        if chunk[:4] == b"ds64":
            long = int.from_bytes(chunk[16:24], "little")
        if chunk[:4] in (b"data", b"SSND"):
            there, declared = size - position - 8, long or length
            # Programs that write to a pipe declare the largest size.
            if there >= declared or (declared >= _UNKNOWN and not long):
                break
            if there <= 0:
                raise ItemError(f"has no samples: it is cut off before the {declared:,} bytes of them")
            return there / declared
        position += 8 + length + length % 2
    return None
