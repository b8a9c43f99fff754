"""Memory: flat over a million texts, flat over varied shapes, and below a ceiling.

    python benchmarks/memory.py [--count 1000000] [--calls 2000] [--out benchmarks/results/memory.csv]

Each part runs in a process of its own, whose resident bytes (mapped files included) a thread reads every 5 ms.

stream     distinct short texts through `stream`, a small random BERT: growth after the first tenth
shapes     calls of 1 to 64 texts of 1 to 256 tokens, all-MiniLM-L6-v2: growth after the first quarter
ceiling    long texts under several `max_memory`, all-MiniLM-L6-v2: the peak, batches and streams
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

import machine
import omnivec
from omnivec.ops.process import parse_size, resident

MODEL = "all-MiniLM-L6-v2"
WORDS = ("a", "graph", "is", "built", "from", "its", "weights", "once", "the", "engine", "compiles", "it")
CEILINGS = ("300MB", "400MB", "600MB", "1GB")
MB = 1e6


class Watch:
    """Resident bytes over time, read by a thread."""

    def __enter__(self) -> Watch:
        self.peak, self._done = resident(), threading.Event()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _read(self) -> None:
        while not self._done.wait(0.005):
            self.peak = max(self.peak, resident())

    def lap(self) -> float:
        """The peak since the last lap, in MB."""
        peak, self.peak = max(self.peak, resident()), resident()
        return peak / MB


def small_bert(folder: Path) -> Path:
    """A random BERT of one layer, 32 wide, with a tokenizer of a few words: the loop is what costs."""
    from safetensors.numpy import save_file
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *WORDS, *map(str, range(10))]
    vocabulary = {name: i for i, name in enumerate(dict.fromkeys(names))}
    vocabulary |= {f"##{digit}": len(vocabulary) + digit for digit in range(10)}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    tokenizer.save(str(folder / "tokenizer.json"))
    width, inner = 32, 64
    config = {"model_type": "bert", "hidden_size": width, "num_hidden_layers": 1, "num_attention_heads": 2}
    config |= {"intermediate_size": inner, "vocab_size": len(vocabulary), "max_position_embeddings": 64}
    config |= {"type_vocab_size": 2, "hidden_act": "gelu", "layer_norm_eps": 1e-12}
    (folder / "config.json").write_text(json.dumps(config))
    random = np.random.default_rng(0)
    tables = {"word": len(vocabulary), "position": 64, "token_type": 2}
    tensors = {f"embeddings.{name}_embeddings.weight": (size, width) for name, size in tables.items()}
    layer = "encoder.layer.0"
    for name in ("query", "key", "value"):
        tensors[f"{layer}.attention.self.{name}.weight"] = (width, width)
    tensors[f"{layer}.attention.output.dense.weight"] = (width, width)
    tensors[f"{layer}.intermediate.dense.weight"] = (inner, width)
    tensors[f"{layer}.output.dense.weight"] = (width, inner)
    shapes: dict[str, tuple[int, ...]] = dict(tensors)
    shapes |= {name.replace("weight", "bias"): shape[:1] for name, shape in tensors.items() if layer in name}
    for norm in ("embeddings", f"{layer}.attention.output", f"{layer}.output"):
        shapes |= {f"{norm}.LayerNorm.{part}": (width,) for part in ("weight", "bias")}
    arrays = {name: random.normal(0, 0.3, shape).astype(np.float32) for name, shape in shapes.items()}
    save_file(arrays, folder / "model.safetensors")
    return folder


def distinct(count: int) -> Iterator[str]:
    """So many short texts, no two of them equal."""
    for i in range(count):
        yield f"{i} {WORDS[i % len(WORDS)]} {WORDS[(i // 7) % len(WORDS)]}"


def stream(count: int) -> dict[str, Any]:
    """The first part; laps of a tenth of the texts."""
    with tempfile.TemporaryDirectory() as folder:
        model = omnivec.load(small_bert(Path(folder)), precision="float32")
        peaks, done, start = [], 0, time.perf_counter()
        with Watch() as watch:
            for encoded in model.stream(distinct(count)):
                if (done + len(encoded)) * 10 // count > done * 10 // count:
                    peaks.append(watch.lap())
                done += len(encoded)
    if done != count:
        raise SystemExit(f"{count - done} texts have no vector")
    return {
        "items": count,
        "peak_first_mb": round(peaks[0], 1),
        "peak_last_mb": round(max(peaks[1:]), 1),
        "growth_mb": round(max(peaks[1:]) - peaks[0], 1),
        "wall_s": round(time.perf_counter() - start, 1),
    }


def shapes(calls: int) -> dict[str, Any]:
    """The second part."""
    model = omnivec.load(MODEL)
    random, start, peaks = np.random.default_rng(0), time.perf_counter(), []
    with Watch() as watch:
        for call in range(calls):
            length = int(np.exp(random.uniform(0, np.log(254))))
            rows = int(np.exp(random.uniform(0, np.log(65)))) if length < 64 else int(random.integers(1, 5))
            model.encode([f"{call} {row} " + "word " * length for row in range(rows)])
            if call + 1 in (calls // 4, calls):
                peaks.append(watch.lap())
    return {
        "items": calls,
        "precision": model.card["precision"],
        "peak_first_mb": round(peaks[0], 1),
        "peak_last_mb": round(peaks[1], 1),
        "growth_mb": round(peaks[1] - peaks[0], 1),
        "wall_s": round(time.perf_counter() - start, 1),
    }


def ceiling(size: str, precision: str) -> dict[str, Any]:
    """The third part: one ceiling ("" for none)."""
    about: dict[str, Any] = {"ceiling_mb": parse_size(size) / MB if size else "", "precision": precision}
    texts = [f"{i} " + "word " * 300 for i in range(64)]
    with Watch() as watch:
        try:
            model = omnivec.load(MODEL, precision=precision, max_memory=size or None)
        except omnivec.ModelError as error:
            return {**about, "refused": str(error)}
        start = time.perf_counter()
        model.encode(texts)
        peak = watch.lap()
    return {
        **about,
        "items": len(texts),
        "peak_last_mb": round(peak, 1),
        "obeyed": not size or peak * MB <= parse_size(size),
        "budget": model.card["budget"],
        "streams": model.card["streams"],
        "wall_s": round(time.perf_counter() - start, 2),
    }


def alone(part: str, *arguments: object) -> dict[str, Any]:
    """What a part found, in a process of its own."""
    command = [sys.executable, __file__, "--part", json.dumps([part, *arguments])]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return {"part": part, **json.loads(output.splitlines()[-1])}


def main() -> None:
    """Reads the arguments, measures, prints and writes."""
    arguments = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    arguments.add_argument("--count", type=int, default=1_000_000, help="texts of the first part")
    arguments.add_argument("--calls", type=int, default=2000, help="of the second part")
    arguments.add_argument("--out", type=Path, default=machine.RESULTS / "memory.csv")
    arguments.add_argument("--part", help=argparse.SUPPRESS)
    asked = arguments.parse_args()
    if asked.part:
        part, *given = json.loads(asked.part)
        parts: dict[str, Callable[..., Any]] = {"stream": stream, "shapes": shapes, "ceiling": ceiling}
        print(json.dumps(parts[part](*given)))
        return
    found = [alone("stream", asked.count), alone("shapes", asked.calls)]
    found += [alone("ceiling", size, name) for name in ("float32", "int8") for size in ("", *CEILINGS)]
    names = list(dict.fromkeys(name for row in found for name in row))
    rows = [{name: row.get(name, "") for name in names} for row in found]
    machine.print_table(rows, [name for name in names if name != "refused"])
    machine.write_csv(asked.out, rows)


if __name__ == "__main__":
    main()
