"""What is loaded when: nothing heavy by `import omnivec` and by help, nothing needless by a search."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

import house
from checkpoints import bert
from patience import PATIENCE

# Beyond NumPy: the engines and all that only some calls need.
HEAVY = [
    "openvino",
    "faiss",
    "torch",
    "tokenizers",
    "safetensors",
    "huggingface_hub",
    "packaging",
    "rich",
    "pyarrow",
    "transformers",
]

AT_MOST = 30
"""Modules that `import omnivec` may load beyond those of NumPy."""


def loaded(code: str, *arguments: str, **environment: str) -> set[str]:
    """The modules that a fresh interpreter has loaded when this code is done."""
    listing = "\nimport sys, json; sys.stderr.write(json.dumps([n for n, m in sys.modules.items() if m]))"
    done = subprocess.run(
        [sys.executable, "-c", code + listing, *arguments],
        capture_output=True,
        text=True,
        encoding="utf-8",
        env={**os.environ, "PYTHONPATH": str(house.SRC.parent), **environment},
        timeout=PATIENCE,
    )
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stderr.splitlines()[-1]))


def command(*arguments: str) -> str:
    """Code that runs a command line to its end, and goes on."""
    return f"from omnivec.cli.main import run\nassert run({list(arguments)!r}) == 0"


def test_import_loads_nothing_heavier_than_numpy():
    modules = loaded("import omnivec")
    assert modules.isdisjoint([*HEAVY, "click", "sqlite3"])
    assert len(modules - loaded("import numpy")) <= AT_MOST


def test_public_names_wait_until_they_are_asked_for():
    modules = loaded("import omnivec; omnivec.Hit, omnivec.OmnivecError, dir(omnivec)")
    assert modules.isdisjoint(
        ["omnivec.models.embedder", "omnivec.collection.collection", "omnivec.training"]
    )
    assert "omnivec.models.embedder" in loaded("import omnivec; omnivec.load")


def test_the_embedder_waits_with_its_engine():
    assert loaded("import omnivec; omnivec.load, omnivec.Collection").isdisjoint(
        ["openvino", "torch", "faiss", "tokenizers", "huggingface_hub", "rich", "click"]
    )


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["models", "--json"]], ids=" ".join)
def test_a_light_command_loads_no_engine(arguments, tmp_path):
    modules = loaded(command(*arguments), OMNIVEC_CACHE=str(tmp_path), HF_HUB_CACHE=str(tmp_path))
    assert modules.isdisjoint([*HEAVY, "sqlite3"] if arguments == ["--help"] else HEAVY)


def test_the_help_of_every_command_loads_no_engine():
    from omnivec.cli.group import COMMANDS

    code = "\n".join(command(name, "--help") for name in COMMANDS)
    assert loaded(code).isdisjoint(HEAVY)


def test_a_search_loads_no_torch(tmp_path):
    bert(tmp_path / "model")
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "one.md").write_text("The engine compiles the graph once.\n")
    where = ["--collection", str(tmp_path / "notes.omni")]
    needless = ["torch", "transformers", "huggingface_hub", "packaging", "safetensors", "pyarrow"]
    environment = {"OMNIVEC_CACHE": str(tmp_path / "cache"), "HOME": str(tmp_path)}
    model = ["--model", str(tmp_path / "model")]
    indexed = loaded(command("index", str(tmp_path / "docs"), *where, *model), **environment)
    assert indexed.isdisjoint(needless)
    modules = loaded(command("search", "a graph", *where), **environment)
    assert "openvino" in modules  # it did embed the query
    assert modules.isdisjoint([*needless, "rich"])
    writing = [
        "omnivec.collection.syncing",
        "omnivec.collection.adding",
        "omnivec.inputs.files.read",
        "omnivec.inputs.files.walk",
    ]
    elsewhere = [
        *(f"omnivec.models.{name}" for name in ("joint", "memory")),
        *(
            "omnivec.tables.io",
            "omnivec.tables.formats.own",
            "omnivec.vectors.alignment",
            "openvino.tools.ovc",
        ),
    ]
    assert modules.isdisjoint([*writing, *elsewhere])
    by_words = loaded(command("search", "graph", "--mode", "text", *where), **environment)
    assert by_words.isdisjoint(HEAVY[:7])
