"""Finds speech in recordings: its probability every 32 ms, and the spans in which someone speaks.

The model is Silero VAD (family `silero_vad`). A recording is decoded and read in blocks of some minutes, in flat
memory; the states of the network go on from block to block, so that the result does not depend on the blocks.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from threading import Lock
from types import SimpleNamespace
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from omnivec.errors import UsageError
from omnivec.inputs.audio.sound import blocks, read_sound
from omnivec.models.embedder import Embedder
from omnivec.models.loading import load, loaded
from omnivec.models.network import Network
from omnivec.ops.base import Executable, Input, Ops, Params, Value
from omnivec.types import Audio, Floats
from omnivec.validation.arguments import real
from omnivec.vectors.activity import active_spans
from omnivec.vectors.class_scores import LinearClassifier

MODEL = "silero-vad"
"""Name of the model that is used by default."""

RATE = 16_000
"""Sampling rate in Hz at which recordings are read."""

FRAME = 512
"""Samples of a frame, which has one probability: 32 ms."""

_FAMILY = "silero_vad"
_BLOCK = 6000
"""Number of frames that are read at a time: 192 seconds."""


@dataclass(frozen=True, eq=False)
class SpeechFinder:
    """Finds speech in recordings. It may be used from several threads.

    Attributes:
        model: of the family `silero_vad`; None for `MODEL`, which is downloaded at the first use.
        threshold: probability at which speech begins. It ends below `threshold` - 0.15.
        min_speech: seconds; shorter spans are left out.
        min_silence: seconds of a pause that ends a span.
        pad: seconds that are added to both ends of a span.
    """

    model: Embedder | None = None
    threshold: float = 0.5
    min_speech: float = 0.25
    min_silence: float = 0.1
    pad: float = 0.03
    _network: _SpeechNetwork = field(init=False, repr=False)

    def __post_init__(self) -> None:
        for name, most in (
            ("threshold", 1.0),
            ("min_speech", 3600.0),
            ("min_silence", 3600.0),
            ("pad", 3600.0),
        ):
            object.__setattr__(self, name, real(name, getattr(self, name), 0.0, most))
        model = _default() if self.model is None else loaded(self.model)
        object.__setattr__(self, "model", model)
        object.__setattr__(self, "_network", _network(model))

    @property
    def identity(self) -> Mapping[str, Any]:
        """What determines the spans: the model and the settings, in JSON types."""
        return {
            "detector": _FAMILY,
            "weights": dict(self._network.hashes),
            "threshold": self.threshold,
            "min_speech": self.min_speech,
            "min_silence": self.min_silence,
            "pad": self.pad,
        }

    def probabilities(self, sound: Any) -> Floats:
        """The probability of speech in each frame of `FRAME` samples: (t,) float32.

        Args:
            sound: a pathlib.Path, the bytes of a file, or an Audio. The last frame is completed with zeros.

        Raises:
            ItemError: it cannot be read.
        """
        return self._read(sound)[0]

    def spans(self, sound: Any) -> NDArray[np.float64]:
        """The spans of speech in seconds: (n, 2) float64, start and end, ascending and without overlap.

        Args:
            sound: as for `probabilities`.

        Raises:
            ItemError: it cannot be read.
        """
        shares, count = self._read(sound)
        found = active_spans(
            shares,
            FRAME,
            count,
            threshold=self.threshold,
            min_active=self.min_speech * RATE,
            min_gap=self.min_silence * RATE,
            pad=self.pad * RATE,
        )
        return found / RATE

    def __call__(self, samples: Floats) -> NDArray[np.float64]:
        """The spans (n, 2) of speech in seconds in samples (n,) at `RATE`."""
        return self.spans(Audio(samples, RATE)) if len(samples) else np.zeros((0, 2))

    def _read(self, sound: Any) -> tuple[Floats, int]:
        """The probabilities, and the number of samples."""
        seconds, count, shares = _BLOCK * FRAME / RATE, 0, [np.zeros(0, np.float32)]

        def counted() -> Iterator[Floats]:
            nonlocal count
            for block in blocks(read_sound(sound), RATE, seconds):
                count += len(block)
                yield block

        shares += self._network.probabilities(counted())
        return np.concatenate(shares), count


def speech_probabilities(sound: Any, model: Embedder | None = None) -> Floats:
    """The probability of speech in each 32 ms of a recording: (t,) float32; see `SpeechFinder.probabilities`."""
    return SpeechFinder(model).probabilities(sound)


def speech_spans(
    sound: Any,
    model: Embedder | None = None,
    *,
    threshold: float = 0.5,
    min_speech: float = 0.25,
    min_silence: float = 0.1,
    pad: float = 0.03,
) -> list[tuple[float, float]]:
    """The spans of a recording in which someone speaks, by the rules of Silero's `get_speech_timestamps`.

    Args:
        sound: a pathlib.Path, the bytes of a file, or an Audio.
        model: of the family `silero_vad`; None for `MODEL`.
        threshold: probability at which speech begins. It ends below `threshold` - 0.15.
        min_speech: seconds; shorter spans are left out.
        min_silence: seconds of a pause that ends a span.
        pad: seconds that are added to both ends of a span.

    Returns:
        Start and end of each span in seconds, ascending and without overlap.

    Raises:
        ItemError: the recording cannot be read.
        UsageError: a setting out of range, or a model of another family.
    """
    found = SpeechFinder(model, threshold, min_speech, min_silence, pad).spans(sound)
    return [(start, end) for start, end in found.tolist()]


class _SpeechNetwork:
    """The network of a model, compiled to read frames block by block."""

    def __init__(self, network: Network) -> None:
        model = network.model
        classes = model.hooks.labels(model.published, model.tensors)
        if classes is None:
            raise UsageError(
                f"{model.folder}: its weights lack the last layer, which gives probabilities of speech"
            )
        self.classes: LinearClassifier = classes
        self.hashes = model.hashes
        self.width = model.config.dim
        preparer: Any = model.preparer
        self.frames: Any = preparer.processing.features
        state = (None, self.width)
        inputs = [
            Input("sound", np.float32, (None, None, *self.frames.rows)),
            Input("lengths", np.int32, (None,)),
            Input("h", np.float32, state),
            Input("c", np.float32, state),
        ]

        def program(ops: Ops, get: Any, p: Params) -> dict[str, Value]:
            batch = SimpleNamespace(sound=get("sound"), lengths=get("lengths"), mask=None)
            model.forward(ops, p, model.config, batch)
            y, h, c = ops.lstm_from(ops.states[0], p["lstm"], get("h"), get("c"))
            return {"states": ops.relu(y), "h": h, "c": c}

        self.executable: Executable = network.compile(program, inputs)

    def probabilities(self, pieces: Iterator[Floats]) -> Iterator[Floats]:
        """The probabilities of the frames of each block of samples, whose lengths are multiples of `FRAME`."""
        h = c = np.zeros((1, self.width), np.float32)
        context = self.frames.context
        before = np.zeros(context, np.float32)
        for samples in pieces:
            rows = self.frames(samples)
            rows[0, :context] = before
            before = rows[-1, -context:].copy()
            lengths = np.array([len(rows)], np.int32)
            found = self.executable.run({"sound": rows[None], "lengths": lengths, "h": h, "c": c})
            h, c = found["h"].copy(), found["c"].copy()
            yield self.classes.probabilities(found["states"][0])[:, 0]


_networks: WeakKeyDictionary[Embedder, _SpeechNetwork] = WeakKeyDictionary()
_lock = Lock()


def _network(model: Embedder) -> _SpeechNetwork:
    """The network of a model, compiled once."""
    if model.card["family"] != _FAMILY:
        raise UsageError(
            f"{model.name} is of the family {model.card['family']}, which gives no probabilities of speech: use "
            f"omnivec.load({MODEL!r})"
        )
    with _lock:
        if model not in _networks:
            _networks[model] = _SpeechNetwork(model.encoder.networks[0])
        return _networks[model]


@lru_cache(maxsize=1)
def _default() -> Embedder:
    # In bfloat16, probabilities differ by up to 0.02.
    return load(MODEL, precision="float32")
