"""The tables of figures in README and docs, made of the CSV files: a letter for each kind of machine.

    python benchmarks/tables.py

A cell holds the same figure of each kind of machine on which it was measured, in the order of the letters. Tests hold
README and docs to what this prints.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from string import ascii_uppercase

import machine

Row = Mapping[str, str]
NONE = "–"
ENGINES = (
    *("sentence-transformers default", "sentence-transformers bfloat16", "sentence-transformers ONNX", "fastembed"),
    *("infinity bfloat16", "embed-anything ONNX", "CTranslate2", "omnivec float32", "omnivec"),
)  # fmt: skip
SETS = ("short 8-30", "mixed 10-256", "long 256")
PROGRAMS = ("sentence-transformers + numpy", "omnivec search")
IMAGES = ("ViT-B/32", "ResNet-50", "EfficientNet-B0", "CLIP ViT-B/32, images")


def results(name: str) -> list[dict[str, str]]:
    """The rows of a benchmark."""
    return machine.read_csv(machine.RESULTS / f"{name}.csv")


def kinds() -> dict[str, str]:
    """CPU -> its letter; the kinds of machine on which texts were measured, the fastest first."""
    peaks = {row["cpu"]: float(row["peak_gflops"]) for row in results("text_encode") if row["peak_gflops"]}
    return dict(zip(sorted(peaks, key=lambda cpu: -peaks[cpu]), ascii_uppercase, strict=False))


def cell(rows: Sequence[Row], column: str, shown: Callable[[float], str], **where: str) -> str:
    """A figure of each kind of machine."""
    found = []
    for cpu in kinds():
        values = [r[column] for r in rows if r["cpu"] == cpu and where.items() <= r.items() and r.get(column)]
        found.append(shown(float(values[-1])) if values else NONE)
    return found[0] if len(set(found)) == 1 else " / ".join(found)


def times(value: float) -> str:
    """A ratio."""
    return f"{value:.1f}"


def share(value: float) -> str:
    """A part of one."""
    return f"{value:.2f}"


def percent(value: float) -> str:
    """A part of a hundred."""
    return f"{value:.0%}".replace("%", " %")


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = [f"| {' | '.join(line)} |" for line in (head, *rows)]
    return "\n".join([lines[0], "|" + "---|" * len(head), *lines[1:]])


def machines() -> str:
    """The kinds of machine, with the fastest products of matrices that were measured on two cores."""
    rows = results("text_encode")
    found = []
    for cpu, letter in kinds().items():
        own = [row for row in rows if row["cpu"] == cpu and row["peak_gflops"]]
        rates = [(row["precision"], float(row["peak_gflops"])) for row in own]
        peaks = {name: f"{max(rate for of, rate in rates if of == name):,.0f}" for name, _ in rates}
        sets = "AVX512-BF16" if own[0]["avx512_bf16"] == "True" else ""
        amx = "AMX" if own[0]["amx_bf16"] == "True" else "no AMX"
        found.append((letter, cpu, f"{sets}, {amx}", own[0]["threads"], peaks["float32"], peaks["bfloat16"]))
    return table(("kind", "CPU", "instructions", "cores", "float32, GFLOP/s", "bfloat16, GFLOP/s"), found)


def texts() -> str:
    """Texts by engine: how many times as fast as sentence-transformers' default, in CPU seconds."""
    rows = results("text_encode")
    found = [
        [
            engine,
            *(cell(rows, "ratio_cpu", times, engine=engine, set=kind) for kind in SETS),
            cell(rows, "peak_part", share, engine=engine, set=SETS[0]),
            cell(rows, "sts_spearman", "{:.2f}".format, engine=engine, set=SETS[0]),
        ]
        for engine in ENGINES
    ]
    return table(("engine", *SETS, "of the peak", "STS-B Spearman"), found)


def start() -> str:
    """One question from a shell."""
    rows = results("cold_start")
    found = [
        [
            program,
            cell(rows, "wall_s", share, program=program),
            cell(rows, "cpu_s", share, program=program),
            cell(rows, "peak_mb", "{:.0f}".format, program=program),
        ]
        for program in PROGRAMS
    ]
    return table(("program", "seconds", "CPU seconds", "peak MB"), found)


def images() -> str:
    """Images by model: how many times as fast as transformers on torch in float32, in CPU seconds of one core."""
    rows = [row for row in results("image_encode") if row["threads"] == "1"]
    found = []
    for model in IMAGES:
        arrays = [row for row in rows if row["model"] == model and row["source"] == "arrays"]
        files = [row for row in rows if row["model"] == model and row["source"] == "files"]
        half = {"engine": "omnivec bfloat16"}
        found.append(
            [
                model,
                cell(arrays, "ratio_cpu", times, engine="omnivec float32"),
                cell(arrays, "ratio_cpu", times, **half),
                cell(arrays, "cosine_min", "{:.4f}".format, **half),
                cell(files, "ratio_cpu", times, **half),
                cell(files, "decoding", percent, **half),
                cell(arrays, "peak_part", share, **half),
            ]
        )
    head = ("model", "float32", "bfloat16", "cosine, bfloat16", "from files, bfloat16", "share of decoding")
    return table((*head, "of the peak"), found)


PARTS = {
    "vocab": "vocabulary pass",
    "skipgram": "skip-gram",
    "cbow-0.05": "CBOW, `lr=0.05` as here by default",
    "cbow": "CBOW, `lr=0.025` as in gensim",
    "hs": "skip-gram with hierarchical softmax",
    "hs-cbow": "CBOW with hierarchical softmax",
}
MEASURES = ("analogies", "wordsim", "simlex")


def words() -> str:
    """Tables of words against gensim, of the rows that have the range of their runs."""
    rows = {(row["part"], row["program"]): row for row in results("words") if row.get("ratio_cpu_low")}
    found = []
    for part, name in PARTS.items():
        ours, theirs = rows[part, "omnivec"], rows[part, "gensim"]
        spread = f"{float(theirs['ratio_cpu_low']):.1f} to {float(theirs['ratio_cpu_high']):.1f}"
        faster = f"{float(theirs['ratio_cpu']):.1f}, {spread} ({float(theirs['ratio_wall']):.1f})"
        worth = [f"{ours[kind]} / {theirs[kind]}" if ours[kind] else "" for kind in MEASURES]
        found.append([name, faster, *worth])
    return table(("what", "faster", "analogies", "WordSim", "SimLex"), found)


def speakers() -> str:
    """Error rates by which models tell speakers apart, of each set in both precisions."""
    rows = results("speaker_eer")
    found = []
    for one in rows:
        if one["precision"] == "float32":
            [half] = [
                r["eer_%"] for r in rows if r["model"] == one["model"] and r["set"] == one["set"] and r != one
            ]
            trials = f"{int(one['same']):,} / {int(one['different']):,}"
            found.append([one["model"], one["set"], one["median_s"], trials, one["eer_%"], half])
    return table(("model", "recordings", "seconds", "pairs of one / of two", "EER, %", "in bfloat16"), found)


def summary() -> str:
    """The main figures, one for each kind of work."""
    encoding, starting, training = results("text_encode"), results("cold_start"), results("words")
    pictures = [row for row in results("image_encode") if row["threads"] == "1" and row["source"] == "arrays"]
    skipgram = [row for row in training if row["program"] == "gensim" and row.get("ratio_cpu_low")]
    short = cell(encoding, "ratio_cpu", times, engine="omnivec", set=SETS[0])
    answer = cell(starting, "ratio_wall", times, program=PROGRAMS[1])
    image = cell(pictures, "ratio_cpu", times, model=IMAGES[0], engine="omnivec bfloat16")
    words = cell(skipgram, "ratio_cpu", times, part="skipgram")
    rows = (
        ("encode short texts, all-MiniLM-L6-v2 (CPU time)", "sentence-transformers", short),
        ("answer one question from a shell, 3,000 passages", "sentence-transformers and NumPy", answer),
        ("encode images, ViT-B/32 (CPU time, one core)", "transformers on torch, float32", image),
        ("train word vectors, skip-gram (CPU time)", "gensim", words),
    )
    return table(("work", "peer", "times as fast"), rows)


TABLES: Mapping[str, Sequence[Callable[[], str]]] = {
    "README.md": (summary,),
    "docs/figures.md": (machines, texts, start, speakers),
    "docs/images.md": (images,),
    "docs/words.md": (words,),
}
"""Page -> the tables that stand in it."""


if __name__ == "__main__":
    for page, made in TABLES.items():
        print(f"{page}\n")
        for one in made:
            print(f"{one()}\n")
