"""Sounds to vectors: omnivec against the publisher's library on torch, the same weights, the same cores, one process.

    python benchmarks/audio_encode.py [--quick] [--seconds 120] [--repetitions 3] [--model NAME ...] [--threads N]

Weights are random, and such that what tells one sound from another survives to the last layer; vectors are compared
without what all sounds share, or any two would look alike. Every repetition takes fresh sounds and gives them to each
engine in turn, front ends included. Two sources: `equal`, sounds of 10 seconds, which torch runs in batches, and
`mixed`, sounds of 1 to 20 seconds, which torch runs one by one, because the published models have other results for
padded sounds; omnivec makes its own batches of both. Ratios are medians over the repetitions of (torch / engine) for
the same sounds: above 1 is faster. On a shared machine trust `ratio_cpu`. `sound_s_per_cpu_s` is the seconds of sound
that one CPU second turns into vectors. `peak_part` is the network's arithmetic, without that of padding between
sounds, by the fastest matrix product that was measured in the same run in the engine's precision. A model that cannot
run has a row that says why.

To add a model, write a function that publishes it and returns its `Reference`, and a line of `SUBJECTS`.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

import ecapa_torch
import machine
import omnivec
from machine import Spent, significant
from omnivec.errors import OmnivecError
from omnivec.types import Audio
from peers_peak import counted_flops

LEAST_COSINE = 0.999
BASE = "torch float32"
Vectors = NDArray[np.float32]
Sounds = Sequence[NDArray[np.float32]]


class Reference(Protocol):
    """A model as its publisher's library runs it on torch."""

    def __call__(self, sounds: Sounds) -> Vectors:
        """Samples (n,) of each sound, all of one length, at the model's rate -> vectors (n, dim)."""


@dataclass(frozen=True)
class Subject:
    """A model that is compared.

    Attributes:
        publish: writes a checkpoint of random weights in a folder, and returns the reference that has them.
        rate: samples per second.
        options: of `omnivec.load`.
    """

    publish: Callable[[Path], Reference]
    rate: int = 16000
    options: Mapping[str, Any] = field(default_factory=dict)


class Speech:
    """transformers' model of speech and its extractor; the vector is the mean of the frames."""

    def __init__(self, model: Any) -> None:
        from transformers import Wav2Vec2FeatureExtractor

        self.model, self.extractor = model, Wav2Vec2FeatureExtractor()

    def __call__(self, sounds: Sounds) -> Vectors:
        """The means of the last states."""
        import torch

        batch = self.extractor(list(sounds), sampling_rate=16000, return_tensors="pt").input_values
        with torch.no_grad():
            return np.asarray(self.model(batch).last_hidden_state.mean(1).numpy())


def publish_speech(name: str, folder: Path) -> Reference:
    """A model of transformers in its class's own shape, that of the published base models."""
    import transformers

    model = scattered(getattr(transformers, f"{name}Model")(getattr(transformers, f"{name}Config")()))
    model.save_pretrained(folder)
    transformers.Wav2Vec2FeatureExtractor().save_pretrained(folder)
    return Speech(model)


def scattered(model: Any) -> Any:
    """Weights of variance 1 / fan-in, 2 / fan-in in convolutions before a GELU: states keep their size.

    What a layer adds to its input is a fifth of that: about as training leaves it. Layers of random weights otherwise
    blow rounding up, which no trained one does.
    """
    import torch

    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for name, p in model.named_parameters():
            if p.ndim > 1 and "original0" not in name:
                is_added = any(part in name for part in ("out_proj", "output_dense", "fc2"))
                gain = 0.04 if is_added else 2 if "conv" in name else 1
                p.copy_(torch.randn(p.shape, generator=generator) * (gain / p[0].numel()) ** 0.5)
    return model.eval()


class WhisperEncoder:
    """transformers' encoder of Whisper and its extractor; the vector is the mean of the states of the sound."""

    def __init__(self, model: Any) -> None:
        from transformers import WhisperFeatureExtractor

        self.model, self.extractor = model, WhisperFeatureExtractor()

    def __call__(self, sounds: Sounds) -> Vectors:
        """The means of the last states."""
        import torch

        batch = self.extractor(list(sounds), sampling_rate=16000, return_tensors="pt").input_features
        with torch.no_grad():
            states = self.model.encoder(batch).last_hidden_state
        return np.stack([states[i, : -(-len(one) // 320)].mean(0).numpy() for i, one in enumerate(sounds)])


def publish_whisper(folder: Path) -> Reference:
    """Whisper in the shape of whisper-base."""
    import transformers

    shape = {"d_model": 512, "encoder_layers": 6, "encoder_attention_heads": 8, "encoder_ffn_dim": 2048}
    same = {"decoder_layers": 6, "decoder_attention_heads": 8, "decoder_ffn_dim": 2048}
    model = scattered(transformers.WhisperModel(transformers.WhisperConfig(**shape, **same)))
    model.save_pretrained(folder)
    transformers.WhisperFeatureExtractor().save_pretrained(folder)
    return WhisperEncoder(model)


SUBJECTS = {
    "wav2vec2-base": Subject(partial(publish_speech, "Wav2Vec2")),
    "WavLM-base": Subject(partial(publish_speech, "WavLM")),
    "whisper-base encoder": Subject(publish_whisper, options={"layer": 6}),
    "ECAPA-TDNN": Subject(ecapa_torch.publish),
}


def voices(rng: np.random.Generator, lengths: Sequence[int], rate: int) -> Sounds:
    """Sounds of these numbers of samples, each with gliding harmonics, a rhythm and coloured noise of its own."""
    found = []
    for length in lengths:
        time = np.arange(length) / rate
        pitch = 10 ** rng.uniform(1.8, 3.3) * (1 + 0.2 * np.sin(2 * np.pi * rng.uniform(0.3, 2) * time))
        phase = 2 * np.pi * np.cumsum(pitch) / rate
        tones = sum(rng.uniform(0, 1) / k * np.sin(k * phase) for k in range(1, 12))
        rhythm = 0.5 + 0.5 * np.sin(2 * np.pi * rng.uniform(0.5, 5) * time)
        noise = rng.standard_normal(length)
        noise[1:] -= rng.uniform(-0.95, 0.95) * noise[:-1]
        sound = rhythm * tones + 10 ** rng.uniform(-3, 1) * noise
        found.append((0.1 * sound / np.sqrt(np.mean(np.square(sound)))).astype(np.float32))
    return found


class Ours:
    """An embedder in one precision."""

    def __init__(self, subject: Subject, folder: Path, precision: str, threads: int) -> None:
        self.rate = subject.rate
        self.model = omnivec.load(folder, precision=precision, threads=threads, **subject.options)

    def __call__(self, sounds: Sounds) -> Vectors:
        """Vectors (n, dim)."""
        return self.model.encode([Audio(sound, self.rate) for sound in sounds], show_progress_bar=False)


@dataclass
class Measured:
    """What one engine did with one source, by repetition."""

    took: list[Spent] = field(default_factory=list)
    vectors: list[Vectors] = field(default_factory=list)

    def total(self, clock: str) -> list[float]:
        """Seconds of each repetition."""
        return [getattr(one, clock) for one in self.took]


Engines = Mapping[str, Reference]


def lengths_of(source: str, asked: argparse.Namespace, rate: int) -> list[int]:
    """Samples of each sound of a repetition, about `asked.seconds` together; the same in all."""
    if source == "equal":
        return [10 * rate] * max(2, round(asked.seconds / 10))
    count = max(2, round(asked.seconds / 10.5))
    return [int(one * rate) for one in np.random.default_rng(0).permutation(np.linspace(1, 20, count))]


def in_parts(call: Reference, sounds: Sounds, size: int) -> Vectors:
    """The vectors of sounds, `size` of them at a time."""
    return np.concatenate([call(sounds[start : start + size]) for start in range(0, len(sounds), size)])


def measure(engines: Engines, source: str, asked: argparse.Namespace, rate: int) -> dict[str, Measured]:
    """All engines on one source, in turns."""
    found = {name: Measured() for name in engines}
    lengths = lengths_of(source, asked, rate)
    rngs = [np.random.default_rng(100 + repetition) for repetition in range(asked.repetitions)]
    inputs = [voices(rng, lengths, rate) for rng in rngs]
    for one in engines.values():  # what compiles or allocates at the first call is not counted
        one(inputs[0][:1])
    for repetition, name in machine.in_turns(list(engines), asked.repetitions):
        size = len(lengths) if name != BASE else asked.batch if source == "equal" else 1
        vectors, took = machine.spent(partial(in_parts, engines[name], inputs[repetition], size))
        found[name].vectors.append(vectors)
        found[name].took.append(took)
    return found


def cosines(a: Sequence[Vectors], b: Sequence[Vectors]) -> NDArray[np.float64]:
    """Of each sound's two vectors, both without the mean of all sounds' second."""
    x, y = (np.concatenate(parts).astype(np.float64) for parts in (a, b))
    x, y = x - y.mean(0), y - y.mean(0)
    return np.asarray((x * y).sum(1) / np.linalg.norm(x, axis=1) / np.linalg.norm(y, axis=1))


FIGURES = (
    *("sound_s_per_cpu_s", "ratio_wall", "cpu_s", "ratio_cpu", "ratio_cpu_low", "ratio_cpu_high"),
    *("gflops", "peak_part", "cosine_mean", "cosine_min"),
)


def operations(reference: Reference, lengths: Sequence[int], rate: int) -> float:
    """Operations of the network for sounds of so many samples, each alone."""
    rng = np.random.default_rng(0)
    return sum(
        times * counted_flops(partial(reference, voices(rng, [length], rate)))
        for length, times in Counter(lengths).items()
    )


def row(
    model: str, source: str, name: str, work: tuple[float, float, int], found: Mapping[str, Measured]
) -> dict[str, Any]:
    """One line of the result; `work` is seconds of sound, the operations that they need, and threads."""
    seconds, flops, threads = work
    own, base = found[name], found[BASE]
    walls, cpus = own.total("wall"), own.total("cpu")
    by_wall = [b / o for b, o in zip(base.total("wall"), walls, strict=True)]
    by_cpu = [b / o for b, o in zip(base.total("cpu"), cpus, strict=True)]
    # By CPU seconds, since the machine may be shared; all threads together do `threads` of them a second.
    rate = flops / statistics.median(cpus) * threads / 1e9
    peak = machine.peaks(threads)["bfloat16" if name.endswith("bfloat16") else "float32"]
    near = cosines(own.vectors, base.vectors)
    figures = (
        significant(seconds / statistics.median(cpus), 3),
        *(significant(value, 3) for value in (statistics.median(by_wall), statistics.median(cpus))),
        *(significant(value, 3) for value in (statistics.median(by_cpu), min(by_cpu), max(by_cpu))),
        significant(rate, 3),
        significant(rate / peak, 3),
        round(float(near.mean()), 6),
        round(float(near.min()), 6),
    )
    status = "ok" if near.min() >= LEAST_COSINE else f"a cosine of {near.min():.5f} is below {LEAST_COSINE}"
    return blank(model, source, name, seconds, status) | dict(zip(FIGURES, figures, strict=True))


def blank(model: str, source: str, name: str, seconds: float, status: str) -> dict[str, Any]:
    """A line without figures."""
    stated = {"model": model, "source": source, "engine": name, "seconds": significant(seconds)}
    return {**stated, **dict.fromkeys(FIGURES, ""), "status": status}


def compare(name: str, asked: argparse.Namespace) -> list[dict[str, Any]]:
    """The lines of one model."""
    subject = SUBJECTS[name]
    with tempfile.TemporaryDirectory() as place:
        try:
            reference = subject.publish(Path(place))
            ours = {p: Ours(subject, Path(place), p, asked.threads) for p in asked.precisions}
        except (ImportError, OmnivecError) as error:
            return [blank(name, "", "", 0, f"skipped: {error}")]
        engines: Engines = {BASE: reference, **{f"omnivec {p}": one for p, one in ours.items()}}
        lines = []
        for source in ("equal", "mixed"):
            lengths = lengths_of(source, asked, subject.rate)
            found = measure(engines, source, asked, subject.rate)
            flops = operations(reference, lengths, subject.rate)
            work = (sum(lengths) / subject.rate, flops, asked.threads)
            lines += [row(name, source, engine, work, found) for engine in engines]
    return lines


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="60 seconds of sound, 2 repetitions")
    parser.add_argument("--seconds", type=float, default=120, help="of sound in a repetition")
    parser.add_argument(
        "--batch", type=int, default=4, help="sounds that torch runs at a time, if equally long"
    )
    parser.add_argument("--repetitions", "--repeat", type=int, default=3)
    parser.add_argument("--threads", type=int, default=machine.cores(), help="of every engine")
    parser.add_argument("--model", action="append", default=[], choices=list(SUBJECTS), help="only this one")
    parser.add_argument("--out", type=Path, default=machine.RESULTS / "audio_encode.csv")
    asked = parser.parse_args()
    if asked.quick:
        asked.seconds, asked.repetitions = 60, 2
    return asked


def main() -> None:
    """Reads the arguments, measures, prints and writes."""
    asked = arguments()
    import torch

    from omnivec.ops.openvino import cpu_can_bfloat16

    torch.set_num_threads(asked.threads)
    asked.precisions = ["float32", "bfloat16"] if cpu_can_bfloat16() else ["float32"]
    rows = [line for name in asked.model or SUBJECTS for line in compare(name, asked)]
    rows = [{**line, "batch": asked.batch, "threads": asked.threads} for line in rows]
    print(
        ", ".join(f"peak {name}: {rate:.0f} GFLOP/s" for name, rate in machine.peaks(asked.threads).items())
    )
    hidden = ("seconds", "batch", "threads", "ratio_cpu_low", "ratio_cpu_high")
    machine.print_table(rows, [column for column in rows[0] if column not in hidden])
    machine.write_csv(asked.out, rows, ("model", "source", "engine", "threads", "cpu"), asked.threads)


if __name__ == "__main__":
    main()
