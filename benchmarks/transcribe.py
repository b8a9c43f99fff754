"""Transcripts by Whisper: word error rate and CPU seconds, beside transformers with the same weights.

    python benchmarks/transcribe.py [--model whisper-base ...] [--clips N]

100 utterances of LibriSpeech test-other, 10 speakers, 767 s. The likeliest token is taken at each step, by both; the
language is given as English. Words are compared after the normalisation that OpenAI published with Whisper, as
transformers has it (`EnglishTextNormalizer`, without its table of spellings). `equal` counts the texts that are those
of transformers in float32 without timestamps, letter by letter. transformers computes in batches of 8, in float32, with
as many threads. CPU seconds include the front end, and not the loading of the model.

Writes results/transcribe.csv. Data: librispeech_other_sub in ../shared/data or OMNIVEC_TEST_DATA; the transcripts,
which that folder lacks, are data/librispeech_other_transcripts.tsv, of LibriSpeech (CC BY 4.0).
"""

from __future__ import annotations

import argparse
import functools
import io
import json
import os
import sys
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

import machine
import omnivec
from omnivec.types import Audio

# Threads of torch that wait for one another would otherwise count as busy where other programs run too.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

TRANSCRIPTS = machine.HERE / "data" / "librispeech_other_transcripts.tsv"
BATCH = 8


def utterances(archive: Path, count: int) -> tuple[list[Audio], list[str]]:
    """Sounds, and what is said in them."""
    lines = TRANSCRIPTS.read_text(encoding="utf-8").splitlines()
    said = dict(line.split("\t") for line in lines if not line.startswith("#"))
    sounds, texts = [], []
    with zipfile.ZipFile(archive) as files:
        for name in sorted(name for name in files.namelist() if name.endswith(".flac"))[:count]:
            samples, rate = soundfile.read(io.BytesIO(files.read(name)), dtype="float32")
            sounds.append(Audio(samples, rate))
            texts.append(said[Path(name).stem])
    return sounds, texts


def distance(said: Sequence[str], written: Sequence[str]) -> int:
    """The least number of words to replace, leave out or insert."""
    row = list(range(len(written) + 1))
    for i, word in enumerate(said):
        before, row[0] = row[0], i + 1
        for j, other in enumerate(written):
            before, row[j + 1] = row[j + 1], min(row[j + 1] + 1, row[j] + 1, before + (word != other))
    return row[-1]


def error_rate(said: Sequence[str], written: Sequence[str]) -> float:
    """Errors in per cent of the words that are said, after normalisation."""
    from transformers.models.whisper.english_normalizer import EnglishTextNormalizer

    normal = EnglishTextNormalizer({})
    pairs = [(normal(one).split(), normal(other).split()) for one, other in zip(said, written, strict=True)]
    return 100 * sum(distance(*pair) for pair in pairs) / sum(len(words) for words, _ in pairs)


def peer(model: omnivec.Embedder) -> Callable[[list[Audio]], list[str]]:
    """transformers with the weights of a model: sounds -> texts."""
    import tokenizers
    import torch
    from transformers import WhisperConfig, WhisperFeatureExtractor, WhisperForConditionalGeneration

    torch.set_num_threads(machine.cores())
    config, published = model.model.config, model.model.published
    start = 50257 if config.vocab_size == 51864 else 50258
    prompt = [50257, 50362] if start == 50257 else [50258, 50259, 50359, 50363]
    settings = {key: value for key, value in published.items() if "suppress" not in key}
    ids = {f"{role}_token_id": start - 1 for role in ("bos", "eos", "pad")} | {
        "decoder_start_token_id": start
    }
    network = WhisperForConditionalGeneration(WhisperConfig(**settings, **ids)).eval()
    tensors = {f"model.{n}": torch.from_numpy(t.float32().copy()) for n, t in model.model.tensors.items()}
    network.load_state_dict(tensors, strict=False)
    network.tie_weights()
    extractor = WhisperFeatureExtractor(feature_size=config.num_mel_bins)
    tokenizer = tokenizers.Tokenizer.from_file(str(model.folder / "tokenizer.json"))

    def texts(sounds: list[Audio]) -> list[str]:
        written = []
        for begin in range(0, len(sounds), BATCH):
            samples = [one.samples for one in sounds[begin : begin + BATCH]]
            features = extractor(samples, sampling_rate=16000, return_tensors="pt").input_features
            with torch.inference_mode():
                ids = network.generate(
                    features,
                    decoder_input_ids=torch.tensor([prompt] * len(samples)),
                    suppress_tokens=list(published["suppress_tokens"]),
                    begin_suppress_tokens=list(published["begin_suppress_tokens"]),
                    max_new_tokens=config.max_target_positions // 2,
                    num_beams=1,
                    do_sample=False,
                )
            written += [tokenizer.decode([i for i in row if i < start - 1]).strip() for row in ids.tolist()]
        return written

    return texts


def main() -> None:
    """Measures, prints a table and writes the CSV."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--model", nargs="+", default=["whisper-tiny.en", "whisper-base"])
    parser.add_argument("--clips", type=int, default=100)
    parser.add_argument("--output", type=Path, default=machine.RESULTS / "transcribe.csv")
    given = parser.parse_args()
    archive = machine.data("librispeech_other_sub", "flac.zip")
    if archive is None:
        sys.exit("librispeech_other_sub: not in the data folder; OMNIVEC_TEST_DATA names another place")
    sounds, said = utterances(archive, given.clips)
    seconds = sum(len(one.samples) / one.rate for one in sounds)
    rows: list[dict[str, Any]] = []
    for name in given.model:
        exact = omnivec.load(name, precision="float32")
        transformers = peer(exact)
        reference, spent = machine.spent(functools.partial(transformers, sounds))
        runs = [("transformers", "float32", False, reference, spent)]
        for precision, timestamps in (("float32", False), ("float32", True), ("bfloat16", False)):
            model = exact if precision == "float32" else omnivec.load(name, precision=precision)
            call = functools.partial(model.transcribe, sounds, language="en", timestamps=timestamps)
            done, spent = machine.spent(call)
            runs.append(("omnivec", precision, timestamps, [one.text for one in done], spent))
        for library, precision, timestamps, texts, spent in runs:
            rows.append(
                {
                    "model": name,
                    "library": library,
                    "precision": precision,
                    "timestamps": timestamps,
                    "clips": len(sounds),
                    "seconds": round(seconds, 1),
                    "wer_%": round(error_rate(said, texts), 2),
                    "equal": int(np.sum([a == b for a, b in zip(texts, reference, strict=True)])),
                    "cpu_s": round(spent.cpu, 1),
                }
            )
            print(json.dumps(rows[-1]), flush=True)
    machine.print_table(rows, list(rows[0]))
    machine.write_csv(given.output, rows)


if __name__ == "__main__":
    main()
