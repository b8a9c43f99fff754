"""Sounds and films for tests, encoded by FFmpeg through PyAV."""

from __future__ import annotations

import io
import tempfile
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray


def encoded(samples: NDArray[np.float32], rate: int, container: str, codec: str, **options: str) -> bytes:
    """The bytes of a file with samples (n, channels) that FFmpeg writes, such as AAC in MP4.

    Args:
        samples: samples (n, channels).
        rate: their rate in Hz.
        container: FFmpeg's name of the muxer.
        codec: FFmpeg's name of the encoder.
        options: options of the muxer.
    """

    layout = {1: "mono", 2: "stereo", 6: "5.1"}[samples.shape[1]]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "sound"  # FFmpeg opens it a second time to move the header of MP4 to the front
        _write(path, samples, rate, (container, codec, layout), options)
        return path.read_bytes()


def _write(
    path: Path,
    samples: NDArray[np.float32],
    rate: int,
    names: tuple[str, str, str],
    options: dict[str, str],
) -> None:
    container, codec, layout = names
    with av.open(path, "w", format=container, options=options) as output:
        stream = output.add_stream(codec, rate=rate)
        stream.layout = layout
        stream.bit_rate = 128_000
        name = stream.codec_context.format.name
        values: NDArray[Any] = samples.T
        if name.startswith("s16"):
            values = np.round(values * 32767).astype(np.int16)
        for start in range(0, len(samples), 960):
            block = values[:, start : start + 960]
            flat = block if name.endswith("p") else block.T.reshape(1, -1)
            frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(flat), format=name, layout=layout)
            frame.sample_rate, frame.pts, frame.time_base = rate, start, Fraction(1, rate)
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))


def remuxed(data: bytes, container: str) -> bytes:
    """The packets of a file's sound in another container."""
    file = io.BytesIO()
    with av.open(io.BytesIO(data)) as source, av.open(file, "w", format=container) as output:
        stream = output.add_stream_from_template(source.streams.audio[0])
        for packet in source.demux(source.streams.audio[0]):
            if packet.dts is not None:
                packet.stream = stream
                output.mux(packet)
    return file.getvalue()


def film(seconds: float, samples: NDArray[np.float32] | None = None, rate: int = 48000) -> bytes:
    """The bytes of an MP4 film of grey pictures, with sound (n, channels) or without."""
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as output:
        pictures = output.add_stream("mpeg4", rate=25)
        pictures.width = pictures.height = 32
        sound = None if samples is None else output.add_stream("aac", rate=rate)
        for number in range(round(25 * seconds)):
            frame = av.VideoFrame.from_ndarray(np.full((32, 32, 3), number % 256, np.uint8), format="rgb24")
            output.mux(pictures.encode(frame))
        output.mux(pictures.encode(None))
        if sound is not None and samples is not None:
            for start in range(0, len(samples), 1024):
                block = np.ascontiguousarray(samples[start : start + 1024].T)
                tone = av.AudioFrame.from_ndarray(block, format="fltp", layout="stereo")
                tone.sample_rate, tone.pts, tone.time_base = rate, start, Fraction(1, rate)
                output.mux(sound.encode(tone))
            output.mux(sound.encode(None))
    return file.getvalue()
