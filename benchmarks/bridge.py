"""How well a linear map between the vectors of two models stands in for embedding everything again.

    python benchmarks/bridge.py [--data /work/shared/data] [--out benchmarks/results/bridge.csv]

The documents are every third training question of BANKING77 and the abstracts of Cranfield, the queries every third
test question and Cranfield's. A map is fitted to a sample of documents that both models embed
(`omnivec.vectors.bridge`). Each row compares the 10 nearest documents of the queries:

    recall_own what the map itself reports: on held-out documents, among the fitted ones
    old        by mapped queries of the new model in the old vectors, against those by the old model's own queries
    new        the same, against those by the new model's queries in new vectors: what a finished migration finds
    new_by_old by the old model's own queries in the old vectors, against those of a finished migration
    right_*    share of the 10 that have the query's label (BANKING77): by the old model, by the new one, by the map

Models: the default transformer, the static table of wordllama (`pypi:wordllama`), and the first 3 of the transformer's
6 layers, which is a weaker transformer of its own. Times are not measured.
"""

from __future__ import annotations

import argparse
import csv
import json
import re
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

import omnivec
from omnivec import hub
from omnivec.types import Floats
from omnivec.vectors.bridge import Bridge, recall
from omnivec.vectors.unit import unit

SAMPLES = (500, 2000)
EACH = 3
"""One question of BANKING77 in so many is used."""
TABLE = "pypi:wordllama==0.4.0.post1"
Texts = tuple[list[str], list[str]]
"""Texts and their labels; no labels for Cranfield."""


def banking(data: Path) -> tuple[Texts, Texts]:
    """The documents and queries of BANKING77, with their intents."""
    parts = []
    for name in ("train", "test"):
        with (data / "banking77" / f"{name}.csv").open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))[::EACH]
        parts.append(([row["text"] for row in rows], [row["category"] for row in rows]))
    return parts[0], parts[1]


def cranfield(data: Path) -> tuple[Texts, Texts]:
    """The abstracts and queries of Cranfield."""
    found = []
    for name in ("cran.all.1400", "cran.qry"):
        text = (data / "cranfield" / name).read_text(encoding="latin-1")
        bodies = re.findall(r"^\.W\n(.*?)(?=^\.I|\Z)", text, re.M | re.S)
        found.append(([" ".join(one.split()) for one in bodies if one.strip()], list[str]()))
    return found[0], found[1]


def table(folder: Path) -> omnivec.Embedder:
    """The static table of wordllama, in model2vec's form."""
    places = Path(hub.cache_folder()).glob("pypi/wordllama/*/model")
    source = next(iter(places), None)
    if source is None:
        try:
            omnivec.load(TABLE)  # downloads the package; the files are not those of a model
        except omnivec.errors.OmnivecError:
            source = next(iter(Path(hub.cache_folder()).glob("pypi/wordllama/*/model")))
    assert source is not None
    weights = next(source.rglob("l2_supercat_256.safetensors"))
    tokenizer = next(source.rglob("l2_supercat_tokenizer_config.json"))
    vectors = load_file(weights)["embedding.weight"].astype(np.float32)
    save_file({"embeddings": vectors}, folder / "model.safetensors")
    shutil.copy(tokenizer, folder / "tokenizer.json")
    (folder / "config.json").write_text(json.dumps({"model_type": "model2vec", "normalize": True}))
    return omnivec.load(folder)


def shallow(folder: Path, model: omnivec.Embedder, layers: int = 3) -> omnivec.Embedder:
    """The first layers of a transformer."""
    shutil.copytree(model.folder, folder, dirs_exist_ok=True)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "num_hidden_layers": layers}))
    tensors = load_file(folder / "model.safetensors")
    kept = {
        name: one
        for name, one in tensors.items()
        if (found := re.search(r"layer\.(\d+)\.", name)) is None or int(found[1]) < layers
    }
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})
    return omnivec.load(folder)


def labelled(queries: Floats, documents: Floats, wanted: Sequence[str], labels: Sequence[str]) -> float:
    """Share of the 10 nearest documents that have the label of the query."""
    scores = unit(queries.astype(np.float32)) @ unit(documents.astype(np.float32)).T
    best = np.argpartition(-scores, 9, axis=1)[:, :10]
    return float((np.asarray(labels)[best] == np.asarray(wanted)[:, None]).mean())


def main() -> int:
    """Measures all pairs and writes the CSV."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=Path("/work/shared/data"))
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "bridge.csv")
    options = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        (Path(scratch) / "table").mkdir()
        best = omnivec.load("all-MiniLM-L6-v2")
        models = {
            "MiniLM": best,
            "wordllama": table(Path(scratch) / "table"),
            "MiniLM, 3 layers": shallow(Path(scratch) / "shallow", best),
        }
        for corpus, read in (("BANKING77", banking), ("Cranfield", cranfield)):
            (documents, labels), (queries, wanted) = read(options.data)
            made = {
                name: (model.encode(documents), model.encode_query(queries)) for name, model in models.items()
            }
            for old, new in (
                ("wordllama", "MiniLM"),
                ("MiniLM", "wordllama"),
                ("MiniLM, 3 layers", "MiniLM"),
                ("MiniLM", "MiniLM, 3 layers"),
            ):
                (old_rows, old_queries), (new_rows, new_queries) = made[old], made[new]
                for n in SAMPLES:
                    if n > len(documents):
                        continue
                    sample = np.random.default_rng(0).permutation(len(documents))[:n]
                    bridge = Bridge(random_state=0).fit(new_rows[sample], old_rows[sample])
                    mapped = bridge.transform(new_queries)
                    row = {
                        "corpus": corpus,
                        "old": old,
                        "new": new,
                        "sample": n,
                        "method": bridge.method_,
                        "strength": bridge.strength_,
                        "recall_own": round(bridge.recall_, 3),
                        "recall_old": round(recall(mapped, old_queries, old_rows), 3),
                        "recall_new": round(recall(mapped, new_queries, old_rows, own_among=new_rows), 3),
                        "recall_new_by_old": round(
                            recall(old_queries, new_queries, old_rows, own_among=new_rows), 3
                        ),
                    }
                    if labels:
                        row |= {
                            "right_old": round(labelled(old_queries, old_rows, wanted, labels), 3),
                            "right_new": round(labelled(new_queries, new_rows, wanted, labels), 3),
                            "right_mapped": round(labelled(mapped, old_rows, wanted, labels), 3),
                        }
                    rows.append(row)
                    print(*row.values(), file=sys.stderr, flush=True)
    with options.out.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), restval="")
        writer.writeheader()
        writer.writerows(rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
