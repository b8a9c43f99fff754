"""Words in context: the sense of a word by its nearest use, with the real all-MiniLM-L6-v2.

CoarseWSD-20 (20 nouns) and Senseval's hard, interest, line and serve: accuracy of the nearest neighbour among the
training uses, by the cosine of the word's vectors, against the most frequent sense. Senseval has no split: every fifth
use is asked, the others are known. Writes results/word_senses.csv.
"""

from __future__ import annotations

import argparse
import re
import zipfile
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

import machine
import omnivec

Use = tuple[str, int, str]
"""A sentence, the character where the word begins, and its sense."""


def coarse(word: str) -> tuple[list[Use], list[Use]]:
    """Training and test uses of a noun."""

    def read(part: str) -> list[Use]:
        place = machine.data("coarsewsd20", word)
        assert place is not None
        rows = (place / f"{part}.data.txt").read_text(encoding="utf-8").splitlines()
        senses = (place / f"{part}.gold.txt").read_text(encoding="utf-8").split()
        return [(*located(row), sense) for row, sense in zip(rows, senses, strict=True)]

    return read("train"), read("test")


def located(row: str) -> tuple[str, int]:
    """A sentence and where its word begins, from "position<TAB>sentence of tokens"."""
    position, sentence = row.split("\t")
    before = sentence.split(" ")[: int(position)]
    return sentence, sum(len(token) + 1 for token in before)


def senseval(word: str) -> tuple[list[Use], list[Use]]:
    """Known and asked uses of a word: four of five, and the fifth."""
    place = machine.data("senseval2_lexical", "senseval.zip")
    assert place is not None
    with zipfile.ZipFile(place) as archive:
        text = archive.read(f"senseval/{word}.pos").decode("latin-1")
    uses: list[Use] = []
    for part in text.split("<instance ")[1:]:
        sense, context = (
            re.search(r'senseid="([^"]+)"', part),
            re.search(r"<context>(.*?)</context>", part, re.S),
        )
        if sense is None or context is None or "<head>" not in context[1]:
            continue
        tokens, at = [], 0
        for head, token in re.findall(r"(<head>)?\s*<wf[^>]*>([^<]*)</wf>", context[1]):
            if head:
                at = sum(len(t) + 1 for t in tokens)
            tokens.append(token)
        uses.append((" ".join(tokens), at, sense[1]))
    return [u for i, u in enumerate(uses) if i % 5], uses[::5]


def vectors(
    model: omnivec.Embedder, uses: Sequence[Use], layer: int | list[int]
) -> tuple[np.ndarray, np.ndarray]:
    """(n, width) vectors of the words in their sentences, and their senses; a word behind the limit is left out."""
    rows, senses = [], []
    for sentence, at, sense in uses:
        words = model.words(sentence, layer)
        inside = (words.spans[:, 0] <= at) & (words.spans[:, 1] > at)
        if inside.any():
            rows.append(words.vectors[inside][0])
            senses.append(sense)
    return np.array(rows), np.array(senses)


def judged(
    model: omnivec.Embedder, known: list[Use], asked: list[Use], layer: int | list[int]
) -> dict[str, object]:
    """Accuracy of the nearest neighbour and of the most frequent sense."""
    (table, senses), (queries, gold) = vectors(model, known, layer), vectors(model, asked, layer)
    nearest = senses[omnivec.similarity(queries, table).argmax(1)]
    frequent = Counter(senses.tolist()).most_common(1)[0][0]
    return {
        "known": len(senses),
        "asked": len(gold),
        "nearest": round(100 * float((nearest == gold).mean()), 2),
        "most_frequent": round(100 * float((gold == frequent).mean()), 2),
    }


def tasks(most: int) -> Iterator[tuple[str, str, list[Use], list[Use]]]:
    """Data set, word, known and asked uses."""
    folder = machine.data("coarsewsd20")
    for place in sorted(folder.iterdir()) if folder else []:
        if place.is_dir():
            yield "coarsewsd20", place.name, *(drawn(uses, most) for uses in coarse(place.name))
    if machine.data("senseval2_lexical", "senseval.zip"):
        for word in ("hard", "interest", "line", "serve"):
            yield "senseval", word, *(drawn(uses, most) for uses in senseval(word))


def drawn(uses: list[Use], most: int) -> list[Use]:
    """At most so many uses, drawn with a fixed seed: some files are sorted by sense."""
    order = np.random.default_rng(0).permutation(len(uses))[:most]
    return [uses[i] for i in sorted(order)]


def main() -> None:
    """Judges every word, and each data set by the mean over its words."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--most", type=int, default=1000, help="uses of a word that are known, and that are asked"
    )
    parser.add_argument("--layer", type=int, nargs="+", default=[-1], help="hidden states that are averaged")
    parser.add_argument("--out", type=Path, default=machine.RESULTS / "word_senses.csv")
    arguments = parser.parse_args()
    model = omnivec.load("all-MiniLM-L6-v2")
    rows: list[dict[str, object]] = []
    for name, word, known, asked in tasks(arguments.most):
        found = {"data": name, "word": word, "layer": " ".join(map(str, arguments.layer))}
        rows.append(found | judged(model, known, asked, arguments.layer))
        print(*rows[-1].values())
    if not rows:
        print("no data: see OMNIVEC_TEST_DATA")
        return
    for name in dict.fromkeys(row["data"] for row in rows):
        own = [row for row in rows if row["data"] == name]
        mean = {
            k: round(float(np.mean([float(str(r[k])) for r in own])), 2) for k in ("nearest", "most_frequent")
        }
        rows.append({**own[0], "word": "(mean)", "known": "", "asked": "", **mean})
        print(name, mean)
    machine.write_csv(arguments.out, rows)


if __name__ == "__main__":
    main()
