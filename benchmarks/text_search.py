"""A collection's three ways to search, on judged sets and on sets made here, before a change and after it.

Judged: CACM and Cranfield. Made, from what can be checked without a judge:
- identifiers: names of functions, alone and in a question, over the docstrings of Python's standard library;
- names: an author's name as CACM prints it, over CACM's records; those that name the author are right;
- punctuation: Cranfield's questions with hyphens, apostrophes and dots that change nothing of what they mean;
- paraphrases: sentences of STSBenchmark, over all of its sentences; right is what people scored 4.4 and more of 5.

With `--without-stop-words`, text search alone over documents from which the stop words of questions were taken: what it
would be if they did not count in a passage's length.

With `--ranked`, text search alone, whose first 50 hits hybrid search takes, if BM25 is computed for all passages that
match, for a tenth and for a twentieth of the collection (`fulltext.MOST_RANKED`): results/text_ranked.csv.

Writes MAP and nDCG@10 to results/text_search.csv under the label of `--label`; rows of other labels stay. Data sets:
../shared/data or OMNIVEC_TEST_DATA; what is absent is left out, and said.
"""

from __future__ import annotations

import argparse
import csv
import re
import tempfile
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

import machine
import omnivec
from omnivec.store import fulltext
from text_quality import DATA, HERE, average_precision, cacm, cranfield, ndcg

Judged = tuple[dict[str, str], dict[str, str], dict[str, dict[str, int]]]
"""Documents, questions, and for each question the grades of documents."""

MODES = ("text", "vector", "hybrid")


def identifiers(count: int = 300) -> Judged:
    """Functions of the standard library, by full and by last name."""
    from omnivec.inputs.files.pydoc import standard_library

    documents = {record.id: record.text for record in standard_library()}
    by_last = defaultdict(list)
    for name in documents:
        by_last[name.rsplit(".", 1)[-1]].append(name)
    names = sorted(name for name in documents if "_" in name or name.count(".") > 1)
    topics, judged = {}, {}
    for i, place in enumerate(np.random.default_rng(0).choice(len(names), count, replace=False)):
        name = names[place]
        last = name.rsplit(".", 1)[-1]
        topics[str(i)] = (name, f"what does {name} do?", last, f"How do I use {last}()?")[i % 4]
        judged[str(i)] = dict.fromkeys([name] if i % 4 < 2 else by_last[last], 1)
    return documents, topics, judged


def names(count: int = 150) -> Judged:
    """Authors of CACM, "Perlis, A. J.", asked for as "A. J. Perlis"."""
    documents, _, _ = cacm()
    authored = defaultdict(set)
    for document, text in documents.items():
        for last, first in re.findall(r"^([A-Z][\w'-]+), ((?:[A-Z]\. ?)+)$", text, flags=re.MULTILINE):
            authored[f"{first.strip()} {last}"].add(document)
    chosen = sorted(name for name, written in authored.items() if len(written) > 1)[
        :: max(1, len(authored) // 900)
    ]
    topics = {str(i): f"papers by {name}" for i, name in enumerate(chosen[:count])}
    judged = {str(i): dict.fromkeys(authored[name], 1) for i, name in enumerate(chosen[:count])}
    return documents, topics, judged


def punctuation() -> Judged:
    """Cranfield's questions, each third pair of words hyphenated, and the signs of careful writing put in."""
    documents, topics, judged = cranfield()

    def marked(question: str) -> str:
        words = question.split()
        pairs = [
            f"{words[i]}-{words[i + 1]}" if i % 3 == 0 else " ".join(words[i : i + 2])
            for i in range(0, len(words) - 1, 2)
        ]
        return f"I'd like to know, e.g. for a U.S. project: {' '.join(pairs + words[len(pairs) * 2 :])}?"

    return documents, {number: marked(question) for number, question in topics.items()}, judged


def paraphrases(count: int = 500) -> Judged:
    """Sentences and what says the same."""
    documents: dict[str, str] = {}
    numbers: dict[str, str] = {}
    judged: dict[str, dict[str, int]] = defaultdict(dict)
    for name in ("stsb-en-dev.csv", "stsb-en-test.csv"):
        with (DATA / "stsbenchmark" / name).open(encoding="utf-8", newline="") as lines:
            for left, right, score in csv.reader(lines):
                for sentence in (left, right):
                    number = numbers.setdefault(sentence, str(len(numbers)))
                    documents[number] = sentence
                if float(score) >= 4.4 and left != right:
                    judged[numbers[left]][numbers[right]] = 1
    asked = list(judged)[:count]
    return (
        documents,
        {number: documents[number] for number in asked},
        {number: judged[number] for number in asked},
    )


SETS: dict[str, tuple[str, Callable[[], Judged]]] = {
    "cacm": ("cacm", cacm),
    "cranfield": ("cranfield", cranfield),
    "identifiers": ("", identifiers),
    "names": ("cacm", names),
    "punctuation": ("cranfield", punctuation),
    "paraphrases": ("stsbenchmark", paraphrases),
}


def without_stop_words(text: str) -> str:
    """A text without the words that questions are asked without."""
    from omnivec.store.fulltext import STOP_WORDS

    return re.sub(r"[^\W_]+", lambda word: "" if word[0].lower() in STOP_WORDS else word[0], text) or "-"


def measured(
    model: omnivec.Embedder, name: str, judged_set: Judged, modes: Sequence[str]
) -> list[dict[str, object]]:
    """MAP and nDCG@10 of each mode; a sentence that is asked for is not its own answer."""
    documents, topics, judged = judged_set
    rows: list[dict[str, object]] = []
    with (
        tempfile.TemporaryDirectory() as place,
        omnivec.Collection(Path(place) / "c.omni", model) as collection,
    ):
        collection.add(list(documents.values()), list(documents))
        for mode in modes:
            precisions, gains = [], []
            for topic, grades in judged.items():
                hits = collection.search(topics[topic], 1500, mode=mode)  # type: ignore[arg-type]
                ranked = list(dict.fromkeys(hit.document for hit in hits))
                if name == "paraphrases":
                    ranked = [document for document in ranked if document != topic]
                precisions.append(average_precision(ranked[:1000], grades))
                gains.append(ndcg(ranked[:10], grades))
            rows.append(
                {
                    "set": name,
                    "documents": len(documents),
                    "questions": len(judged),
                    "mode": mode,
                    "MAP": round(float(np.mean(precisions)), 4),
                    "nDCG@10": round(float(np.mean(gains)), 4),
                }
            )
            print(*rows[-1].values(), flush=True)
    return rows


def ranked(name: str, judged_set: Judged) -> list[dict[str, object]]:
    """MAP of the first 50 hits and nDCG@10 by how many passages BM25 is computed for."""
    documents, topics, judged = judged_set
    rows: list[dict[str, object]] = []
    with tempfile.TemporaryDirectory() as place, omnivec.Collection(Path(place) / "c.omni") as collection:
        collection.add(list(documents.values()), list(documents), vectors=np.ones((len(documents), 2)))
        for share in (1.0, 0.1, 0.05):
            fulltext.MOST_RANKED = int(share * len(documents))
            precisions, gains = [], []
            for topic, grades in judged.items():
                hits = [hit.document for hit in collection.search(topics[topic], 51, mode="text")]
                found = [document for document in hits if name != "paraphrases" or document != topic][:50]
                precisions.append(average_precision(found, grades))
                gains.append(ndcg(found[:10], grades))
            rows.append(
                {
                    "set": name,
                    "documents": len(documents),
                    "questions": len(judged),
                    "most_ranked": fulltext.MOST_RANKED,
                    "MAP@50": round(float(np.mean(precisions)), 4),
                    "nDCG@10": round(float(np.mean(gains)), 4),
                }
            )
            print(*rows[-1].values(), flush=True)
    return rows


def main() -> None:
    """Runs the sets whose data are there."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="all-MiniLM-L6-v2")
    parser.add_argument("--label", default="now", help="what the rows are of, such as a version")
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS))
    parser.add_argument("--without-stop-words", action="store_true")
    parser.add_argument("--out", type=Path, default=HERE / "results" / "text_search.csv")
    parser.add_argument("--ranked", action="store_true")
    arguments = parser.parse_args()
    if arguments.ranked:
        sets = [name for name in ("cacm", "cranfield", "paraphrases") if name in arguments.sets]
        machine.write_csv(
            HERE / "results" / "text_ranked.csv",
            [row for name in sets for row in ranked(name, SETS[name][1]())],
        )
        return
    model = omnivec.load(arguments.model)
    rows: list[dict[str, object]] = []
    if arguments.out.exists():
        with arguments.out.open(encoding="utf-8", newline="") as lines:
            rows = [row for row in csv.DictReader(lines) if row["label"] != arguments.label]
    for name in arguments.sets:
        folder, read = SETS[name]
        if folder and not (DATA / folder).is_dir():
            print(f"{name}: no data at {DATA / folder}")
            continue
        documents, topics, judged = read()
        modes: Sequence[str] = MODES
        if arguments.without_stop_words:
            documents = {number: without_stop_words(text) for number, text in documents.items()}
            modes = ["text"]
        found = measured(model, name, (documents, topics, judged), modes)
        rows += [{"label": arguments.label, **row} for row in found]
    machine.write_csv(arguments.out, rows)


if __name__ == "__main__":
    main()
