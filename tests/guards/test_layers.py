"""Imports go down only. The ranks are data; every import counts, those inside functions and for type checkers too."""

from __future__ import annotations

import ast
import re
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import house

# From the ground up: a module imports from lower ranks only, or from its own room.
RANKS = (
    ("errors", "types", "version"),
    ("validation",),
    ("files",),
    ("progress", "ops", "weights", "hub"),
    ("inputs", "store", "vectors"),
    ("tables",),
    ("families",),
    ("models",),
    ("collection",),
    ("training", "tasks", "evaluation"),
    ("viewer",),
    ("server", "cli", "testing", "former"),
)
RANK = {name: rank for rank, names in enumerate(RANKS) for name in names}

# These see arrays, never a model.
VOCABULARY = {
    "store": ("errors", "types", "validation", "files"),
    "vectors": ("errors", "types", "validation"),
}

# Library -> the only places that may import it, below omnivec.
CONFINED = {
    "torch": ("ops.torch", "training", "families._bridge", "families.transformers"),
    "transformers": ("families._bridge", "families.transformers"),
    "numba": ("tables.kernels",),
    "llvmlite": ("tables.kernels",),
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
KNOWS_NO_MODALITY = "models/batching.py"

# The only files beside the rooms.
ROOT_FILES = ("__init__", "errors", "files", "progress", "testing", "types", "version")

# Folders of plug-ins, whose files are named by what they add: a name may occur in several of them.
PLUGINS = (
    *("cli", "evaluation", "families", "former", "inputs", "tasks", "store.indexes", "tables.formats"),
    *("tables.kernels", "training.recipes"),
)


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
    found += [f"{p.name}: not one of the root's files" for p in root.glob("*.py") if p.stem not in ROOT_FILES]
    return found + _repeated(modules) + _cycles(imports) + _modalities(root / KNOWS_NO_MODALITY)


def _repeated(modules: dict[str, Path]) -> list[str]:
    """Names of files that occur more than once outside the folders of plug-ins."""
    places: dict[str, list[str]] = {}
    for module, path in modules.items():
        place = module.removeprefix(f"{house.NAME}.")
        if path.name != "__init__.py" and not place.startswith(tuple(f"{folder}." for folder in PLUGINS)):
            places.setdefault(path.name, []).append(place)
    return [f"{name} occurs {len(at)} times: {', '.join(at)}" for name, at in places.items() if len(at) > 1]


def _inside(one: house.Import) -> str | None:
    here, there = layer(one.module), layer(one.target)
    if one.target == one.module.rpartition(".")[0] or (not there and one.module != house.NAME):
        return "a module never imports the package that it lies in"
    if not here or here == there:
        return None
    if here in VOCABULARY and there not in VOCABULARY[here]:
        return f"{here}/ sees {', '.join(VOCABULARY[here])} and itself, nothing else"
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
                f"{path.name}:{getattr(node, 'lineno', 0)}: {word!r} is a modality"
                for word in words
                if MODALITY.fullmatch(word)
            ]
    return found


def test_the_house_keeps_its_rules():
    assert violations(house.SRC) == []


def test_every_import_is_seen():
    seen = {(one.module, one.target) for one in house.imports()}
    assert ("omnivec.collection.syncing", "omnivec.store.sqlite") in seen  # at the top
    assert ("omnivec.models.network", "omnivec.ops.openvino") in seen  # inside a function
    assert ("omnivec.training.recipe_registry", "omnivec.models.embedder") in seen  # for type checkers
    assert (
        "omnivec.collection.upkeep",
        "omnivec.store.matrix",
    ) in seen  # a module named by `from package import`
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
    "store/indexes/exact.py": "from .base import Index",
    "store/indexes/base.py": "import numpy as np\nfrom omnivec.types import Floats",
    "weights/__init__.py": "from omnivec.weights.checkpoints import read",
    "weights/checkpoints.py": "from omnivec import errors",
    "models/__init__.py": "",
    "models/model.py": "from omnivec import weights",
    "models/batching.py": '"""Any text."""\n# image\ncontext = "a texture"\n',
    "models/embedder.py": "def load():\n    from omnivec.models.model import M",
}

BROKEN = {
    "up": (
        {"models/model.py": "from omnivec.collection import spaces", "collection/spaces.py": ""},
        "imports go down only",
    ),
    "up, inside a function": (
        {"files.py": "def f():\n    import omnivec.models.embedder"},
        "imports go down only",
    ),
    "up, for type checkers": (
        {
            "files.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from omnivec.models.model import M"
        },
        "imports go down only",
    ),
    "up, relative": ({"ops/base.py": "from ..models.model import M"}, "imports go down only"),
    "up, by name": (
        {"files.py": "import importlib\nimportlib.import_module('omnivec.models.model')"},
        "go down only",
    ),
    "sideways": (
        {"progress.py": "from omnivec import weights"},
        f"rank {RANK['progress']} imports rank {RANK['weights']}",
    ),
    "circle": ({"store/indexes/base.py": "from omnivec.store.indexes.exact import E"}, "a circle"),
    "own package": (
        {"weights/checkpoints.py": "from omnivec.weights import read"},
        "the package that it lies in",
    ),
    "the whole": ({"ops/base.py": "import omnivec"}, "the package that it lies in"),
    "the whole, a name of it": (
        {"models/embedder.py": "from omnivec import load"},
        "the package that it lies in",
    ),
    "store sees a room below it": (
        {"store/indexes/base.py": "from omnivec.ops.base import Ops"},
        "store/ sees",
    ),
    "store sees a model": ({"store/indexes/base.py": "from omnivec.models.model import M"}, "store/ sees"),
    "torch at large": (
        {"models/model.py": "import torch"},
        "torch is imported in ops.torch and training and families._bridge and",
    ),
    "torch, late": (
        {"models/embedder.py": "def f():\n    from torch.nn import Linear"},
        "torch is imported in",
    ),
    "torch beside its file": ({"ops/torches.py": "import torch"}, "torch is imported in"),
    "openvino at large": (
        {"models/model.py": "import openvino.opset13"},
        "openvino is imported in ops.openvino and",
    ),
    "hub at large": ({"files.py": "import huggingface_hub"}, "huggingface_hub is imported in hub only"),
    "transformers": (
        {"ops/torch.py": "from transformers import AutoModel"},
        "transformers is imported in families._bridge and families.transformers only",
    ),
    "numba at large": ({"training/loop.py": "import numba"}, "numba is imported in tables.kernels only"),
    "pandas, by name": ({"files.py": "__import__('pandas')"}, "pandas is never imported"),
    "unknown room": ({"utils.py": ""}, "no rank is given to 'utils'"),
    "a file at the root": ({"server.py": ""}, "server.py: not one of the root's files"),
    "a name twice": ({"weights/model.py": ""}, "model.py occurs 2 times: models.model, weights.model"),
    "unknown folder": ({"helpers/deep/one.py": ""}, "no rank is given to 'helpers'"),
    "modality as a string": ({"models/batching.py": "x = {'image': 1}"}, "'image' is a modality"),
    "modality in a name": ({"models/batching.py": "def run_audio(videos): pass"}, "'audio' is a modality"),
    "modality in a parameter": ({"models/batching.py": "def run(videos): pass"}, "'videos' is a modality"),
    "modality imported": (
        {"models/batching.py": "from omnivec.inputs.text.text import decode"},
        "'text' is a modality",
    ),
}


def test_a_sound_package_passes(tmp_path):
    assert violations(build(tmp_path, SOUND)) == []


@pytest.mark.parametrize("name", BROKEN)
def test_a_violation_is_caught(tmp_path, name):
    changed, why = BROKEN[name]
    found = violations(build(tmp_path, SOUND | changed))
    assert any(why in line for line in found), found
