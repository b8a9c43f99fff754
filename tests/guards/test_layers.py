"""Imports go down only. The ranks are data; every import counts, those inside functions and for type checkers too."""

from __future__ import annotations

import ast
import re
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import house
import pytest

# From the ground up: a module imports from lower ranks only, or from its own package's siblings.
RANKS = (
    ("errors", "types", "version", "whitespace"),
    ("reasons",),
    ("arguments",),
    ("files", "items", "json_files"),
    ("typed",),
    ("sentence_files",),
    ("progress", "kernels", "ops", "documents", "weights", "registry", "hub"),
    ("media", "head", "bridge", "store", "tasks", "folders", "languages"),
    ("families",),
    ("runtime", "batching"),
    ("model", "lookup"),
    ("compiled", "saving"),
    ("late", "towers"),
    ("encode_options",),
    ("embedder",),
    ("keyed", "joint"),
    ("loading",),
    ("passages", "identity", "contents", "file_names"),
    ("spaces", "ranking"),
    ("searching",),
    ("indexing",),
    ("syncing",),
    ("adding",),
    ("collection", "training", "evaluation", "exporting", "classifying", "deduplicating"),
    ("viewer",),
    ("server", "cli", "testing"),
)
RANK = {name: rank for rank, names in enumerate(RANKS) for name in names}

# These see arrays, never a model.
VOCABULARY_ONLY = ("store", "tasks")

# Library -> the only places that may import it, below omnivec.
CONFINED = {
    "torch": ("ops.torch", "training", "bridge", "families.transformers"),
    "transformers": ("bridge", "families.transformers"),
    "numba": ("kernels",),
    "llvmlite": ("kernels",),
    "openvino": ("ops.openvino", "ops.openvino_nodes", "ops.converted"),
    "huggingface_hub": ("hub",),
}
NEVER = frozenset(
    [
        "torchvision",
        "torchaudio",
        "torchcodec",
        "sentence_transformers",
        "sklearn",
        "scipy",
        "pandas",
        "librosa",
        "timm",
        "open_clip",
        "speechbrain",
    ]
)

# The loop serves them all, so it knows none.
MODALITY = re.compile(r"(text|image|audio|video)s?", re.IGNORECASE)
KNOWS_NO_MODALITY = "batching.py"


def layer(module: str) -> str:
    """The part of the house that a module lies in; "" for the package itself."""
    return ([*module.split("."), ""])[1]


def violations(root: Path) -> list[str]:
    """What breaks the rules in a package's folder, one line each."""
    modules, imports = house.modules(root), house.imports(root)
    found = [
        f"{name}: no rank is given to {layer(name)!r}" for name in modules if layer(name) not in (*RANK, "")
    ]
    for one in imports:
        why = _inside(one) if one.target.partition(".")[0] == house.NAME else _outside(one)
        if why:
            found.append(f"{one}: {why}")
    return found + _cycles(imports) + _modalities(root / KNOWS_NO_MODALITY)


def _inside(one: house.Import) -> str | None:
    here, there = layer(one.module), layer(one.target)
    if one.target == one.module.rpartition(".")[0] or (not there and one.module != house.NAME):
        return "a module never imports the package that it lies in"
    if not here or here == there:
        return None
    if here in VOCABULARY_ONLY and there not in ("errors", "reasons", "types", "arguments"):
        return f"{here}/ sees errors, reasons, types, arguments and itself, nothing else"
    if RANK.get(there, -1) >= RANK.get(here, len(RANKS)):
        return f"rank {RANK[here]} imports rank {RANK[there]}: imports go down only"
    return None


def _outside(one: house.Import) -> str | None:
    library, place = one.target.partition(".")[0], one.module.removeprefix(f"{house.NAME}.")
    if library in NEVER:
        return f"{library} is never imported"
    homes = CONFINED.get(library)
    if homes is None or any(place == home or place.startswith(f"{home}.") for home in homes):
        return None
    return f"{library} is imported in {' and '.join(homes)} only"


def _cycles(imports: list[house.Import]) -> list[str]:
    graph: dict[str, set[str]] = {}
    for one in imports:
        if one.target.partition(".")[0] == house.NAME:
            graph.setdefault(one.module, set()).add(one.target)
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return [f"a circle: {' -> '.join(reversed(error.args[1]))}"]
    return []


def _modalities(path: Path) -> list[str]:
    """Names and strings of the code that name a modality; docstrings and comments may."""
    if not path.exists():
        return []
    tree = house.parse(path)
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    docstrings = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, documented) and node.body and isinstance(node.body[0], ast.Expr)
    }
    found = []
    for node in ast.walk(tree):
        if id(node) in docstrings:
            continue
        for _, value in ast.iter_fields(node):
            said = value if isinstance(value, list) else [value]
            words = [
                word for text in said if isinstance(text, str) for word in re.findall(r"[A-Za-z][a-z]*", text)
            ]
            found += [
                f"{path.name}:{node.lineno}: {word!r} is a modality"
                for word in words
                if MODALITY.fullmatch(word)
            ]
    return found


def test_the_house_keeps_its_rules():
    assert violations(house.SRC) == []


def test_every_import_is_seen():
    seen = {(one.module, one.target) for one in house.imports()}
    assert ("omnivec.syncing", "omnivec.store.sqlite") in seen  # at the top
    assert ("omnivec.compiled", "omnivec.ops.openvino") in seen  # inside a function
    assert ("omnivec.training.recipes", "omnivec.embedder") in seen  # for type checkers
    assert ("omnivec.collection", "omnivec.store.matrix") in seen  # a module named by `from package import`
    assert len(house.modules()) >= 90
    assert len(seen) >= 400


def build(folder: Path, files: dict[str, str]) -> Path:
    """A small package of some of the house's rooms."""
    root = folder / house.NAME
    for name, text in {"__init__.py": "", **files}.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return root


SOUND = {
    "errors.py": "import re",
    "types.py": "from typing import Any",
    "ops/__init__.py": "",
    "ops/base.py": "from omnivec import types",
    "ops/torch.py": "import torch.nn.functional as F\nfrom omnivec.ops.base import Ops",
    "store/__init__.py": "",
    "store/exact.py": "from .base import Index",
    "store/base.py": "import numpy as np\nfrom omnivec.types import Floats",
    "weights/__init__.py": "from omnivec.weights.files import read",
    "weights/files.py": "from omnivec import errors",
    "model.py": "from omnivec import weights",
    "batching.py": '"""Any text."""\n# image\ncontext = "a texture"\n',
    "embedder.py": "def load():\n    from omnivec.model import M",
}

BROKEN = {
    "up": ({"model.py": "from omnivec.embedder import load"}, "imports go down only"),
    "up, inside a function": ({"files.py": "def f():\n    import omnivec.embedder"}, "imports go down only"),
    "up, for type checkers": (
        {"files.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from omnivec.model import M"},
        "imports go down only",
    ),
    "up, relative": ({"ops/base.py": "from ..model import M"}, "imports go down only"),
    "up, by name": (
        {"files.py": "import importlib\nimportlib.import_module('omnivec.model')"},
        "go down only",
    ),
    "sideways": (
        {"progress.py": "from omnivec import weights"},
        f"rank {RANK['progress']} imports rank {RANK['weights']}",
    ),
    "circle": ({"store/base.py": "from omnivec.store.exact import E"}, "a circle"),
    "own package": ({"weights/files.py": "from omnivec.weights import read"}, "the package that it lies in"),
    "the whole": ({"ops/base.py": "import omnivec"}, "the package that it lies in"),
    "the whole, a name of it": ({"embedder.py": "from omnivec import load"}, "the package that it lies in"),
    "store sees a room below it": ({"store/base.py": "from omnivec.ops.base import Ops"}, "store/ sees"),
    "store sees a model": ({"store/base.py": "from omnivec.model import M"}, "store/ sees"),
    "torch at large": (
        {"model.py": "import torch"},
        "torch is imported in ops.torch and training and bridge and",
    ),
    "torch, late": ({"embedder.py": "def f():\n    from torch.nn import Linear"}, "torch is imported in"),
    "torch beside its file": ({"ops/torches.py": "import torch"}, "torch is imported in"),
    "openvino at large": (
        {"model.py": "import openvino.opset13"},
        "openvino is imported in ops.openvino and",
    ),
    "hub at large": ({"files.py": "import huggingface_hub"}, "huggingface_hub is imported in hub only"),
    "transformers": (
        {"ops/torch.py": "from transformers import AutoModel"},
        "transformers is imported in bridge and families.transformers only",
    ),
    "numba at large": ({"training/loop.py": "import numba"}, "numba is imported in kernels only"),
    "pandas, by name": ({"files.py": "__import__('pandas')"}, "pandas is never imported"),
    "unknown room": ({"utils.py": ""}, "no rank is given to 'utils'"),
    "unknown folder": ({"helpers/deep/one.py": ""}, "no rank is given to 'helpers'"),
    "modality as a string": ({"batching.py": "x = {'image': 1}"}, "'image' is a modality"),
    "modality in a name": ({"batching.py": "def run_audio(videos): pass"}, "'audio' is a modality"),
    "modality in a parameter": ({"batching.py": "def run(videos): pass"}, "'videos' is a modality"),
    "modality imported": ({"batching.py": "from omnivec.media.text import decode"}, "'text' is a modality"),
}


def test_a_sound_package_passes(tmp_path):
    assert violations(build(tmp_path, SOUND)) == []


@pytest.mark.parametrize("name", BROKEN)
def test_a_violation_is_caught(tmp_path, name):
    changed, why = BROKEN[name]
    found = violations(build(tmp_path, SOUND | changed))
    assert any(why in line for line in found), found
