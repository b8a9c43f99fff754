"""Reads sounds: audio files, their bytes, and `Audio(samples, rate)`; decodes them to mono at a model's rate.

`read_sound` reads only the header. `samples` and `blocks` decode: channels are averaged (of 5.1 too, all six), and the
rate is converted by soxr at the quality HQ, so that the samples are those of `librosa.load`. A part of a sound has the
same samples, within 1e-6, as the slice of the whole.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from omnivec.errors import ItemError
from omnivec.inputs.audio.decoding import (
    LOUDEST,
    Decoder,
    is_sound,
    mono,
    open_sound,
    refuse_cut,
    refuse_rate,
    refuse_values,
    scaled,
)
from omnivec.inputs.items import shown
from omnivec.inputs.modality import misread
from omnivec.types import Audio, Floats
from omnivec.validation.reasons import decoding, file_name

__all__ = ["Findings", "Sound", "blocks", "examine", "is_sound", "part", "read_sound", "samples"]

MAX_SAMPLES = 2**29
"""Largest number of samples that `samples` returns, 2 GiB: nine hours at 16 kHz."""

_BLOCK = 2**18
"""Largest number of samples, over all channels, that are decoded at a time; half a second, if that is less.

Where decoding fails, what is before it in its block is lost, and the time of the error is that of the block."""

_MARGIN = 512
"""Number of samples, at the lower of both rates, on which a sample of the other rate depends on each side.

At soxr's quality HQ, 160 are enough for 1e-6."""

_FULL = 32767 / 32768
"""Absolute value from which on a sample is at full scale: the largest of 16 bits."""

_LATE = 300.0
"""Seconds from which on parts of a file share a decoder, if it would otherwise read the file from its start."""

_RUN = 3
"""Number of consecutive samples at full scale that count as clipped."""

_WAYS = {
    "uint8": "8 bits without a sign are (samples.astype('float32') - 128) / 128",
    "int64": "16-bit values are samples.astype('int16')",
    "uint16": "16 bits without a sign are (samples.astype('float32') - 32768) / 32768",
}


@dataclass(frozen=True, eq=False)
class Sound:
    """A sound whose header was read, but which is not decoded.

    Attributes:
        source: what it is decoded from: a file, its bytes, or samples in memory.
        name: its name in error messages.
        rate: sampling rate of the source in Hz.
        channels: number of channels of the source.
        seconds: duration of this sound, of which the source may be longer.
        format: format of the source, such as "WAV" or "MP3"; "samples" if it is in memory.
        start: where this sound begins in the source, in seconds.
        end: where it ends in the source, in seconds; None for the end of the source.
        file: identifies the source: device, inode, size and time of change of a file, or bytes; None in memory.
    """

    source: Path | bytes | Audio
    name: str
    rate: int
    channels: int
    seconds: float
    format: str
    start: float = 0.0
    end: float | None = None
    file: Hashable = None

    def __repr__(self) -> str:
        return f"<Sound {self.name!r}: {self.seconds:.3f} s, {self.format}, {self.rate:,} Hz>"

    @property
    def key(self) -> Hashable:
        """Equal for the same extent of the same file or bytes; None for a sound in memory."""
        return None if self.file is None else (self.file, self.start, self.end)

    @property
    def held(self) -> int:
        """Bytes of memory that it takes while it waits to be decoded."""
        if isinstance(self.source, Path):
            return 0
        return len(self.source) if isinstance(self.source, bytes) else int(self.source.samples.nbytes)


@dataclass(frozen=True)
class Findings:
    """What `examine` finds in the samples of a sound, over all channels.

    Attributes:
        seconds: duration.
        peak: largest absolute sample.
        level: root mean square in dB below full scale; -inf for digital silence.
        clipped: share of the samples that are in runs of three or more at full scale.
    """

    seconds: float
    peak: float
    level: float
    clipped: float

    @property
    def silent(self) -> bool:
        """Whether all samples are zero, or the noise of the last bit of 16."""
        return self.peak <= 1 / 32768


def read_sound(item: Any, name: str = "") -> Sound:
    """Reads the header of a sound.

    A file without a duration in its header, such as FLAC from a pipe, is decoded once to count its samples.

    Args:
        item: a pathlib.Path, the bytes of a file, an Audio, or a Sound, which is returned.
        name: its name in error messages; by default its path or a description.

    Raises:
        ItemError: it is not a sound, is empty or cut off, or cannot be read; one line that names it.
    """
    if isinstance(item, Sound):
        return item
    if isinstance(item, str):
        raise ItemError(f"a str is text, never a sound: give pathlib.Path({item[:80]!r}) for the file")
    if not isinstance(item, Path | bytes | Audio):
        raise misread(item, ("audio",)) or _no_sound(item)
    name = name or _name(item)
    with _border(name):
        if isinstance(item, Audio):
            _check_audio(item)
        # Before the header is read, so that a change while it is read is noticed when the sound is decoded.
        key: Hashable = _state(item) if isinstance(item, Path) else item if isinstance(item, bytes) else None
        with open_sound(item) as decoder:
            frames = decoder.frames if decoder.frames is not None else sum(map(len, _blocks(decoder)))
            if not frames:
                raise ItemError(f"has no samples ({decoder.format}, {decoder.rate:,} Hz): its length is zero")
            seconds = frames / decoder.rate
            return Sound(item, name, decoder.rate, decoder.channels, seconds, decoder.format, file=key)


def part(sound: Sound, start: float, end: float) -> Sound:
    """Returns the part of a sound from `start` to `end`, in seconds from its start; what is beyond it is left out.

    Raises:
        ItemError: nothing is left.
    """
    if not (0 <= start < end and start < sound.seconds):
        raise ItemError(
            f"{sound.name}: there is nothing from {start:.3f} to {end:.3f} s of {sound.seconds:.3f} s"
        )
    whole_end = end >= sound.seconds
    return replace(
        sound,
        start=sound.start + start,
        end=sound.end if whole_end else sound.start + end,
        seconds=min(end, sound.seconds) - start,
    )


def samples(sound: Sound, rate: int, *, most: int | None = None) -> Floats:
    """Decodes a sound to mono.

    Args:
        sound: the sound.
        rate: sampling rate in Hz that it is converted to.
        most: largest number of samples; what comes after them is not decoded.

    Returns:
        (n,) float32, the mean of all channels; n is the duration times `rate`, rounded up for a whole source.

    Raises:
        ItemError: it is damaged, cut off, or longer than `MAX_SAMPLES` without `most`; a sample is not finite or far
            outside [-1, 1]; one line that names it.
    """
    count = sound.seconds * rate
    if most is None and count > MAX_SAMPLES:
        raise ItemError(
            f"{sound.name}: lasts {sound.seconds / 3600:.1f} hours, {count:,.0f} samples at {rate:,} Hz, over "
            f"the limit of {MAX_SAMPLES:,}: cut it into parts"
        )
    pieces = list(_pieces(sound, rate, most))
    return pieces[0] if len(pieces) == 1 else np.concatenate([np.zeros(0, np.float32), *pieces])


def blocks(sound: Sound, rate: int, seconds: float) -> Iterator[Floats]:
    """Decodes a sound in consecutive blocks, with memory for one of them.

    Args:
        sound: the sound.
        rate: sampling rate in Hz that it is converted to.
        seconds: length of a block; the last one may be shorter.

    Yields:
        (n,) float32; concatenated, they are what `samples` returns.

    Raises:
        ItemError: as in `samples`.
    """
    size = max(1, round(seconds * rate))
    waiting: list[Floats] = []
    count = 0
    for piece in _pieces(sound, rate, None):
        while count + len(piece) >= size:
            missing = size - count
            yield np.concatenate([*waiting, piece[:missing]])
            piece, waiting, count = piece[missing:], [], 0
        if len(piece):
            waiting.append(piece)
            count += len(piece)
    if waiting:
        yield np.concatenate(waiting)


def examine(sound: Sound) -> Findings:
    """Decodes a sound at its own rate, in flat memory, and measures its level and clipping.

    Raises:
        ItemError: as in `samples`.
    """
    count = clipped = 0
    peak, energy = 0.0, 0.0
    with _opened(sound) as decoder:
        first, last = _extent(sound, decoder.rate)
        runs = np.zeros(decoder.channels, np.int64)
        for block in _blocks(decoder, first, None if last is None else last - first):
            refuse_values(mono(block), first + count, decoder.rate)
            absolute = np.abs(block)
            peak = max(peak, float(absolute.max(initial=0.0)))
            energy += float(np.square(absolute, dtype=np.float64).sum())
            clipped += sum(_clipped(full, runs, channel) for channel, full in enumerate(absolute.T >= _FULL))
            count += len(block)
        total = count * decoder.channels
        level = 10 * math.log10(energy / total) if energy else -math.inf
        return Findings(count / decoder.rate, peak, level, clipped / max(total, 1))


def _clipped(full: NDArray[np.bool_], runs: NDArray[np.int64], channel: int) -> int:
    """Counts samples in runs at full scale in a block of one channel.

    `runs[channel]` is the length of the run at the end of the block before, and is set to that at the end of this one.
    Its samples are counted when it becomes long enough.
    """
    edges = np.flatnonzero(np.diff(np.concatenate([[False], full, [False]])))
    begins, ends = edges[::2], edges[1::2]
    lengths = ends - begins
    before = int(runs[channel])
    continues = len(begins) > 0 and begins[0] == 0
    if continues:
        lengths[0] += before
    count = int(lengths[lengths >= _RUN].sum())
    runs[channel] = lengths[-1] if len(ends) and ends[-1] == len(full) else 0
    return count - before if continues and before >= _RUN else count


def _state(path: Path) -> Hashable:
    """Identifies the content of a file without reading it: device, inode, size and time of change."""
    status = path.stat()
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


@contextmanager
def _opened(sound: Sound) -> Iterator[Decoder]:
    """Yields a decoder of the source of a sound.

    Raises:
        ItemError: it cannot be decoded, or is a file that was changed after its header was read: its duration and hash
            would be those of another content, and its windows parts of two recordings.
    """
    with _border(sound.name), open_sound(sound.source, sound.start >= _LATE) as decoder:
        _refuse_changed(sound)
        try:
            yield decoder
        except ItemError:
            _refuse_changed(sound)  # the reason why it could not be decoded
            raise
        _refuse_changed(sound)


def _refuse_changed(sound: Sound) -> None:
    if isinstance(sound.source, Path) and sound.file is not None and _state(sound.source) != sound.file:
        raise ItemError("was changed while it was read: try again when it is complete")


def _extent(sound: Sound, rate: int) -> tuple[int, int | None]:
    """First sample of a sound at `rate`, and the one after its last; None for the end of the source."""
    return round(sound.start * rate), None if sound.end is None else round(sound.end * rate)


def _pieces(sound: Sound, rate: int, most: int | None) -> Iterator[Floats]:
    """Decodes the extent of a sound to consecutive pieces (n,) at `rate`, at most `most` samples together."""
    with _opened(sound) as decoder:
        first, last = _extent(sound, rate)
        if most is not None:
            last = first + most if last is None else min(last, first + most)
        if decoder.rate == rate:
            yield from _mono_blocks(decoder, first, None if last is None else last - first)
        else:
            yield from _resampled(decoder, rate, first, last)


def _resampled(decoder: Decoder, rate: int, first: int, last: int | None) -> Iterator[Floats]:
    """Converts a sound to another rate; yields the samples from `first` to `last` of the result.

    Sample k of the result is at the time of sample k * M / L of the source, where rate / decoder.rate = L / M. Decoding
    begins before the extent, at a multiple of M, where a sample of the source is at a sample of the result. From 44.1
    to 16 kHz (M = 441, L = 160), a part from 10 s, sample 160,000 of the result and 441,000 of the source, is decoded
    from sample 439,236 = 996 * 441, which is sample 159,360 of the result.
    """
    import soxr

    divisor = math.gcd(decoder.rate, rate)
    up, down = rate // divisor, decoder.rate // divisor
    margin = _MARGIN * max(decoder.rate, rate) // rate
    begin = max(0, first * down // up - margin) // down * down
    count = None if last is None else last * down // up + margin - begin
    before, read, done = begin * up // down, 0, 0
    stream = soxr.ResampleStream(decoder.rate, rate, 1, "float32", "HQ")
    for block in chain(_mono_blocks(decoder, begin, count), [None]):
        read += 0 if block is None else len(block)
        ended = np.zeros(0, np.float32)
        piece = stream.resample_chunk(ended if block is None else block, last=block is None)
        piece, before = piece[max(0, first - before) :], before + len(piece)
        piece = piece if last is None else piece[: last - first - done]
        done += len(piece)
        if len(piece):
            yield piece
    # soxr rounds the number of samples; librosa rounds it up, and adds a zero.
    end = math.ceil((begin + read) * up / down)
    missing = (end if last is None else min(end, last)) - first - done
    if missing > 0:
        yield np.zeros(missing, np.float32)


def _mono_blocks(decoder: Decoder, first: int, count: int | None) -> Iterator[Floats]:
    """Decodes `count` frames from `first` on, or all, to the mean (n,) of their channels."""
    for block in _blocks(decoder, first, count):
        mean = mono(block)
        refuse_values(mean, first, decoder.rate)
        first += len(block)
        yield mean


def _blocks(decoder: Decoder, first: int = 0, count: int | None = None) -> Iterator[Floats]:
    """Decodes `count` frames from `first` on, or all; yields blocks (n, channels)."""
    position, size = 0, max(1, min(_BLOCK // decoder.channels, decoder.rate // 2))
    while count is None or position < first + count:
        try:
            if position < first:
                decoder.seek(first)
                position = first
            block = decoder.read(size if count is None else min(size, first + count - position))
        except ItemError as error:
            after = f"{position / decoder.rate:.1f} s"
            if decoder.frames is not None:
                after += f" of {decoder.frames / decoder.rate:.1f} s"
            raise ItemError(
                f"damaged or cut off after {after} ({error}); copy it again from where it came"
            ) from error
        if not len(block):
            if decoder.frames is not None:
                refuse_cut(position, decoder.frames, decoder.rate)
            return
        yield block
        position += len(block)


def _check_audio(audio: Audio) -> None:
    """Refuses an `Audio` whose rate or samples cannot be meant."""
    values, rate = audio.samples, audio.rate
    if isinstance(rate, bool) or not isinstance(rate, int | np.integer):
        raise ItemError(f"its rate is {shown(rate)}: give the sampling rate in Hz as an int, such as 16000")
    refuse_rate(int(rate))
    if not isinstance(values, np.ndarray):
        raise ItemError(f"its samples are {shown(values)}: give a NumPy array (n,) or (n, channels)")
    if values.ndim not in (1, 2):
        raise ItemError(f"its samples have the shape {values.shape}: give (n,) or (n, channels)")
    if values.ndim == 2 and values.shape[1] > values.shape[0]:
        count, channels = values.shape
        raise ItemError(
            f"has {channels:,} channels of {count:,} samples: channels are the last axis, give Audio(samples.T, rate)"
        )
    if values.dtype.kind != "f" and values.dtype.newbyteorder("=") not in (np.int16, np.int32):
        way = _WAYS.get(values.dtype.name, "convert them first")
        raise ItemError(f"its samples are {values.dtype}: give floats in [-1, 1], int16 or int32; {way}")
    if values.dtype.kind == "f" and values.size:
        peaks = np.abs(values).reshape(len(values), -1).max(1)
        if not peaks.max() <= LOUDEST:  # NaN is not
            wrong = int(np.argmax(~(peaks <= LOUDEST)))
            refuse_values(scaled(peaks[wrong : wrong + 1]), wrong, int(rate))


def _no_sound(item: Any) -> ItemError:
    if isinstance(item, np.ndarray) or hasattr(item, "__array__"):
        return ItemError(
            f"{shown(item)} has no sampling rate, and a rate is never assumed: give Audio(samples, rate)"
        )
    return ItemError(f"{shown(item)} is not a sound: give a pathlib.Path or Audio(samples, rate)")


def _name(item: Path | bytes | Audio) -> str:
    """Returns the name of an item in error messages."""
    if isinstance(item, Path):
        return file_name(item)
    return f"sound file of {len(item):,} bytes" if isinstance(item, bytes) else "Audio"


def _border(name: str) -> AbstractContextManager[None]:
    """Converts exceptions of any class to an ItemError that names the sound."""
    return decoding(name, "cut it into parts")
