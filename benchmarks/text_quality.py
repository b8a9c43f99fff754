"""Quality of all-MiniLM-L6-v2 on real tasks: similarity, classification, retrieval by meaning, by words, by both.

STSBenchmark test (Spearman of cosines), Banking77 (MTEB's protocol: logistic regression on 8 examples of each class,
mean accuracy of 10 draws), CACM and Cranfield (MAP and nDCG@10 of a collection's three search modes). Writes
results/text_quality.csv. Data sets: ../shared/data or OMNIVEC_TEST_DATA; what is absent is left out, and said.
"""

from __future__ import annotations

import argparse
import csv
import html
import os
import re
import tarfile
import tempfile
import warnings
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from scipy.stats import spearmanr

import machine
import omnivec

HERE = Path(__file__).parent
DATA = Path(os.environ.get("OMNIVEC_TEST_DATA", HERE.parent.parent / "shared" / "data"))
Row = dict[str, object]

REFERENCES = {
    ("stsbenchmark", "spearman"): "82.03 (MTEB)",
    ("banking77", "accuracy"): "79.99 to 80.04 (MTEB)",
    ("cacm, text", "MAP"): "0.3123 (Anserini BM25, k1 = 0.9, b = 0.4)",
    ("cranfield, text", "MAP"): "about 0.40 (widely reported, protocol not stated)",
}


def similarity(model: omnivec.Embedder) -> Iterator[Row]:
    """Spearman correlation of cosines with people's scores, times 100."""
    with (DATA / "stsbenchmark" / "stsb-en-test.csv").open(encoding="utf-8", newline="") as lines:
        left, right, scores = zip(*csv.reader(lines), strict=True)
    vectors = model.encode([*left, *right])
    cosines = (vectors[: len(left)] * vectors[len(left) :]).sum(1)
    yield row("stsbenchmark", "spearman", 100 * spearmanr(cosines, [float(s) for s in scores]).statistic)


def classification(model: omnivec.Embedder) -> Iterator[Row]:
    """Accuracy of a linear classifier on few examples, times 100."""
    from sklearn.linear_model import LogisticRegression

    def read(name: str) -> tuple[list[str], np.ndarray]:
        with (DATA / "banking77" / name).open(encoding="utf-8", newline="") as lines:
            rows = list(csv.DictReader(lines))
        return [r["text"] for r in rows], np.array([r["category"] for r in rows])

    texts, labels = read("train.csv")
    test_texts, test_labels = read("test.csv")
    train, test = model.encode(texts), model.encode(test_texts)
    rng, accuracies = np.random.default_rng(42), []
    for _ in range(10):
        chosen = np.concatenate([rng.permutation(np.flatnonzero(labels == c))[:8] for c in np.unique(labels)])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            fitted = LogisticRegression(max_iter=100).fit(train[chosen], labels[chosen])
        accuracies.append(fitted.score(test, test_labels))
    yield row("banking77", "accuracy", 100 * float(np.mean(accuracies)))


def cacm() -> tuple[dict[str, str], dict[str, str], dict[str, dict[str, int]]]:
    """Documents, questions and judgements of CACM."""
    documents, topics = {}, {}
    with tarfile.open(DATA / "cacm" / "cacm.tar.gz") as archive:
        for member in archive.getmembers():
            file = archive.extractfile(member) if member.isfile() else None
            if file is not None:
                text = html.unescape(re.sub(r"<[^>]+>", " ", file.read().decode("latin-1")))
                # Behind the date stand lists of numbers: citations, no text.
                documents[Path(member.name).stem] = text.strip()
    for part in (DATA / "cacm" / "topics.cacm.txt").read_text(encoding="utf-8").split("<DOC>")[1:]:
        number = re.search(r"<DOCNO>\s*(\d+)", part)
        if number is not None:
            body = re.sub(r"<DOCNO>.*?</DOCNO>", "", part, flags=re.DOTALL)
            topics[number[1]] = re.sub(r"<[^>]+>", " ", body).strip()
    judged: dict[str, dict[str, int]] = defaultdict(dict)
    for line in (DATA / "cacm" / "qrels.cacm.txt").read_text(encoding="utf-8").splitlines():
        topic, _, document, grade = line.split()
        judged[topic][document] = int(grade)
    return documents, topics, judged


def cranfield() -> tuple[dict[str, str], dict[str, str], dict[str, dict[str, int]]]:
    """Documents, questions and judgements of Cranfield; questions are numbered by their order."""

    def records(name: str) -> list[tuple[str, dict[str, str]]]:
        found = []
        for part in re.split(r"^\.I ", (DATA / "cranfield" / name).read_text(encoding="latin-1"), flags=re.M)[
            1:
        ]:
            number, _, rest = part.partition("\n")
            fields = re.split(r"^\.([TABW])\n", rest, flags=re.M)
            found.append((number.strip(), dict(zip(fields[1::2], fields[2::2], strict=True))))
        return found

    # The abstract begins with the title already.
    documents = {
        number: fields.get("W", "").strip() or "(no text)" for number, fields in records("cran.all.1400")
    }
    topics = {str(i): fields["W"].strip() for i, (_, fields) in enumerate(records("cran.qry"), 1)}
    judged: dict[str, dict[str, int]] = defaultdict(dict)
    for line in (DATA / "cranfield" / "cranqrel").read_text(encoding="utf-8").splitlines():
        topic, document, grade = line.split()
        judged[topic][document] = 1 if int(grade) != -1 else 0
    return documents, topics, judged


def retrieval(model: omnivec.Embedder, name: str) -> Iterator[Row]:
    """Mean average precision and nDCG@10 over the questions that have judgements."""
    documents, topics, judged = {"cacm": cacm, "cranfield": cranfield}[name]()
    with (
        tempfile.TemporaryDirectory() as place,
        omnivec.Collection(Path(place) / "c.omni", model) as collection,
    ):
        collection.add(list(documents.values()), list(documents))
        for mode in ("vector", "text", "hybrid"):
            precisions, gains = [], []
            for topic, grades in judged.items():
                hits = collection.search(topics[topic], 1500, mode=mode)
                ranked = list(dict.fromkeys(hit.document for hit in hits))[:1000]
                precisions.append(average_precision(ranked, grades))
                gains.append(ndcg(ranked[:10], grades))
            yield row(f"{name}, {mode}", "MAP", float(np.mean(precisions)))
            yield row(f"{name}, {mode}", "nDCG@10", float(np.mean(gains)))


def average_precision(ranked: list[str], grades: Mapping[str, int]) -> float:
    """Mean of the precisions at the relevant documents, over all relevant ones."""
    relevant = sum(grade > 0 for grade in grades.values())
    found = [grades.get(document, 0) > 0 for document in ranked]
    precision = np.cumsum(found) / np.arange(1, len(found) + 1) if found else np.zeros(0)
    return float(precision[np.array(found, bool)].sum() / max(relevant, 1))


def ndcg(ranked: list[str], grades: Mapping[str, int]) -> float:
    """Discounted gain of the first ten over that of the best order."""
    discount = 1 / np.log2(np.arange(2, 12))
    gains = [max(grades.get(document, 0), 0) for document in ranked]
    ideal = sorted((max(grade, 0) for grade in grades.values()), reverse=True)[:10]
    best = float((np.array(ideal) * discount[: len(ideal)]).sum())
    return float((np.array(gains) * discount[: len(gains)]).sum()) / best if best else 0.0


def row(task: str, measure: str, value: float) -> Row:
    """One line of the table."""
    return {
        "task": task,
        "measure": measure,
        "value": round(value, 4),
        "reference": REFERENCES.get((task, measure), ""),
    }


def main() -> None:
    """Runs all tasks whose data are there."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="all-MiniLM-L6-v2")
    parser.add_argument("--out", type=Path, default=HERE / "results" / "text_quality.csv")
    arguments = parser.parse_args()
    model = omnivec.load(arguments.model)
    rows: list[Row] = []
    tasks = {
        "stsbenchmark": similarity(model),
        "banking77": classification(model),
        "cacm": retrieval(model, "cacm"),
        "cranfield": retrieval(model, "cranfield"),
    }
    for folder, task in tasks.items():
        if not (DATA / folder).is_dir():
            print(f"{folder}: no data at {DATA / folder}")
            continue
        for found in task:
            rows.append({"model": arguments.model, **found, "precision": model.card["precision"]})
            print(f"{found['task']:<20} {found['measure']:<10} {found['value']:<10} {found['reference']}")
    machine.write_csv(arguments.out, rows)


if __name__ == "__main__":
    main()
