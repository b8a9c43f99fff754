"""What the tests of collections and of the command line share: a small model, projects, and the real command."""

from __future__ import annotations

import functools
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

import checkpoints
import forked
import omnivec
from omnivec import Collection
from patience import PATIENCE

SOURCE = Path(omnivec.__file__).parent.parent
MAIN = "from omnivec.cli.main import main; main()"

# Root reads everything by its capabilities; without them the owner's bits bind it like anybody else.
DROP = """
import ctypes, os, sys
if os.geteuid() == 0:
    if ctypes.CDLL(None).capset((ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()):
        sys.exit("no capset")
"""

WORDS = [
    "graph",
    "weights",
    "engine",
    "compiles",
    "once",
    "naïve",
    "café",
    "owners",
    "quick",
    "brown",
    "fox",
    "jumps",
    "lazy",
    "dog",
    "capital",
    "return",
    "ops",
    "linear",
    "forward",
    "batch",
    "config",
    "straight",
    "built",
    "read",
    "iso",
    "北京",
    "東京",
    "param",
]


@dataclass(frozen=True)
class Done:
    """A command that ended."""

    code: int
    out: str
    err: str

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The JSON lines on stdout."""
        return [json.loads(line) for line in self.out.splitlines()]

    @property
    def errors(self) -> list[str]:
        """The lines on stderr."""
        return self.err.splitlines()


@dataclass(frozen=True)
class CommandLine:
    """`omnivec` as its users run it: in a process of its own, in a folder, with a cache of its own."""

    folder: Path
    cache: Path
    variables: Mapping[str, str] = field(default_factory=dict)

    def environment(self) -> dict[str, str]:
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("OMNIVEC_")}
        paths = [str(SOURCE), os.environ.get("PYTHONPATH", "")]
        inherited["OMNIVEC_PRECISION"] = "float32"
        own = {"PYTHONPATH": os.pathsep.join(filter(None, paths)), "OMNIVEC_CACHE": str(self.cache)}
        return {**inherited, **own, **self.variables}

    def command(self, *arguments: str | Path | bytes, before: str = "") -> list[Any]:
        return [sys.executable, "-c", f"{before}\n{MAIN}", *arguments]

    def __call__(
        self,
        *arguments: str | Path | bytes,
        before: str = "",
        stdin: str | bytes = b"",
        cwd: Path | None = None,
    ) -> Done:
        """Runs a command line to its end; `before` is Python code run before it.

        The process is a new one where something is run before or the environment is another; else a forked one.
        """
        if forked.POSSIBLE and not before and not self.variables:
            return self.forked(*arguments, stdin=stdin, cwd=cwd)
        done = subprocess.run(
            self.command(*arguments, before=before),
            cwd=cwd or self.folder,
            env=self.environment(),
            input=stdin.encode() if isinstance(stdin, str) else stdin,
            capture_output=True,
            timeout=PATIENCE,
        )
        return Done(done.returncode, done.stdout.decode(), done.stderr.decode())

    def forked(
        self,
        *arguments: str | Path | bytes,
        before: str = "",
        stdin: str | bytes = b"",
        cwd: Path | None = None,
    ) -> Done:
        """Runs a command line to its end in a process that is forked; see tests/helpers/forked.py."""
        with tempfile.TemporaryDirectory() as place:
            files = [Path(place, name) for name in ("stdin", "stdout", "stderr")]
            files[0].write_bytes(stdin.encode() if isinstance(stdin, str) else stdin)
            server = forked.server()
            server.start(f"{before}\n{MAIN}", arguments, cwd or self.folder, self.environment(), files)
            code = server.wait()
            return Done(code, files[1].read_bytes().decode(), files[2].read_bytes().decode())

    def start(self, *arguments: str | Path, **settings: Any) -> subprocess.Popen[str]:
        """Starts a command line."""
        return subprocess.Popen(
            self.command(*arguments, before=settings.pop("before", "")),
            cwd=self.folder,
            env=self.environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            **settings,
        )


def made_model(base: Path) -> Path:
    """A random BERT of 1 layer and 32 components; it and its tokenizer know 300 tokens and texts of 96."""
    folder = base / "tiny"
    if not folder.exists():
        checkpoints.bert(folder, width=32, layers=1)
        say_pooling(folder, "mean_tokens")
    return folder


def say_pooling(folder: Path, mode: str, *more: str) -> None:
    """Makes a model's folder say how tokens become one vector, and what follows, as sentence-transformers does."""
    listed = [
        {"idx": i, "path": f"{i}_{name}" if i else "", "type": f"sentence_transformers.models.{name}"}
        for i, name in enumerate(["Transformer", "Pooling", *more])
    ]
    (folder / "modules.json").write_text(json.dumps(listed))
    (folder / "1_Pooling").mkdir(exist_ok=True)
    pooling = {"word_embedding_dimension": 32, f"pooling_mode_{mode}": True}
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling))


def other_model(base: Path) -> Path:
    """The same with other weights."""
    folder = base / "other"
    if not folder.exists():
        shutil.copytree(made_model(base), folder)
        tensors = load_file(folder / "model.safetensors")
        chance = np.random.default_rng(1)
        mixed = {name: chance.permutation(t.ravel()).reshape(t.shape) for name, t in tensors.items()}
        save_file(mixed, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


SIDE = 32
PIXELS = {
    "image_processor_type": "ViTImageProcessor",
    "size": {"height": SIDE, "width": SIDE},
    "resample": 2,
    "image_mean": [0.5, 0.4, 0.3],
    "image_std": [0.2, 0.3, 0.25],
}
LAYERS = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 48}


def image_model(base: Path, seed: int = 0) -> Path:
    """A random ViT of 1 layer and 32 components, for images of 32 pixels a side."""
    from transformers import ViTConfig, ViTModel

    folder = base / f"workbench-vit-{seed}"  # no name that mktemp("vit") gives
    if not folder.exists():
        config = ViTConfig(**LAYERS, image_size=SIDE, patch_size=8)
        checkpoints.discriminate(ViTModel(config, add_pooling_layer=False), seed).save_pretrained(folder)
        (folder / "preprocessor_config.json").write_text(json.dumps(PIXELS))
    return folder


def joint_model(base: Path) -> Path:
    """A random CLIP of 1 layer and 24 components, for texts of 48 tokens and images of 32 pixels a side."""
    from transformers import CLIPConfig, CLIPModel

    folder = base / "workbench-clip"
    if not folder.exists():
        folder.mkdir()
        size = checkpoints.wordpiece(folder)
        text = {
            **LAYERS,
            "vocab_size": size,
            "max_position_embeddings": 48,
            "eos_token_id": 3,
            "bos_token_id": 2,
        }
        vision = {**LAYERS, "image_size": SIDE, "patch_size": 8}
        config = CLIPConfig(text_config=text, vision_config=vision, projection_dim=24)
        checkpoints.discriminate(CLIPModel(config), 2).save_pretrained(folder)
        (folder / "preprocessor_config.json").write_text(json.dumps(PIXELS))
    return folder


def picture(seed: int, width: int = 64, height: int = 48) -> Any:
    """A PIL image of large coloured shapes, different for different seeds."""
    from PIL import Image

    coarse = np.random.default_rng(seed).integers(0, 256, (4, 5, 3), np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


def write_pictures(folder: Path, count: int, first: int = 0, suffix: str = "png") -> list[Path]:
    """Image files in a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / f"p{first + i:03}.{suffix}" for i in range(count)]
    for i, file in enumerate(files):
        picture(first + i).save(file)
    return files


@functools.cache
def loaded(folder: Path) -> omnivec.Embedder:
    """A model, loaded once, as the commands load it: with the cache of the tests."""
    return omnivec.load(folder)


def prose(seed: int, words: int = 30) -> str:
    """Sentences that are different for different seeds."""
    chosen = random.Random(seed).choices(WORDS, k=words)
    lines = [" ".join(chosen[i : i + 10]) + "." for i in range(0, words, 10)]
    return f"Document number {seed}.\n" + "\n".join(lines) + "\n"


def write_files(folder: Path, texts: Mapping[str, str] | Sequence[str]) -> None:
    """Files in a folder, by name; or one for each text."""
    named = texts if isinstance(texts, Mapping) else {f"f{i:03}.txt": text for i, text in enumerate(texts)}
    for name, text in named.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8", newline="")


@dataclass(frozen=True, eq=False)
class Contents:
    """All that a collection says, comparable between collections: no keys, no times of writing.

    Attributes:
        documents: by id, everything but vectors.
        vectors: by id, (passages, dim).
    """

    documents: dict[str, Any]
    vectors: dict[str, NDArray[np.float32]]

    def same_as(self, wanted: Contents, ids: Iterable[str] | None = None) -> None:
        """Asserts that these documents, or all, are equal in both."""
        names = set(wanted.documents if ids is None else ids)
        if ids is None:
            assert set(self.documents) == names
        for name in names:
            assert self.documents[name] == wanted.documents[name], name
            np.testing.assert_allclose(self.vectors[name], wanted.vectors[name], atol=1e-5)


def contents(collection: Collection) -> Contents:
    """All that a collection says."""
    catalogue = collection._catalogue
    documents, vectors = {}, {}
    for entry in collection.documents():
        found = catalogue.document(entry.id)
        assert found is not None
        passages = [(p.start, p.end, p.line, p.text) for p in found.passages]
        documents[entry.id] = (found.digest, found.pipeline, found.lost, dict(found.metadata), passages)
        vectors[entry.id] = np.concatenate([own for p in found.passages for own in p.vectors.values()])
    return Contents(documents, vectors)


def whole(collection: Collection) -> None:
    """Asserts that nothing in a collection is half there."""
    assert collection.check(deep=True) == []
    counts = collection.counts()
    assert counts.passages == sum(entry.passages for entry in collection.documents())
    assert all(entry.passages > 0 for entry in collection.documents())
    assert sum(counts.vectors.values()) == counts.passages


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a small random model."""
    return made_model(tmp_path_factory.getbasetemp())


@pytest.fixture(scope="session")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of another random model of the same size, tokenizer and config."""
    return other_model(tmp_path_factory.getbasetemp())


@pytest.fixture(scope="session")
def vit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a small random model of images."""
    return image_model(tmp_path_factory.getbasetemp())


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a small random model of texts and images."""
    return joint_model(tmp_path_factory.getbasetemp())


@pytest.fixture(scope="session")
def shared_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache for all commands, so that what is measured once is not measured for each test."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def cache(shared_cache: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """That cache, for this process too."""
    monkeypatch.setenv("OMNIVEC_CACHE", str(shared_cache))
    return shared_cache


@pytest.fixture
def omni(tmp_path: Path, cache: Path) -> CommandLine:
    """The command line, in an empty folder."""
    folder = tmp_path / "project"
    folder.mkdir()
    return CommandLine(folder, cache)


@pytest.fixture
def notes(tmp_path: Path, cache: Path, tiny: Path) -> Iterator[Collection]:
    """An empty collection with a small model."""
    with Collection(tmp_path / "notes.omni", model=loaded(tiny)) as opened:
        yield opened


@pytest.fixture
def docs(tmp_path: Path) -> Path:
    """A folder with three texts and three images."""
    folder = tmp_path / "docs"
    write_files(folder, {"a.txt": prose(1, 10), "b.md": prose(2, 10), "sub/c.txt": prose(3, 10)})
    write_pictures(folder / "sub", 3)
    return folder


@pytest.fixture
def both(tmp_path: Path, cache: Path, tiny: Path, vit: Path) -> Iterator[Collection]:
    """An empty collection with a model of texts and one of images."""
    with Collection(
        tmp_path / "both.omni", models={"text": loaded(tiny), "image": loaded(vit)}
    ) as collection:
        yield collection


@pytest.fixture
def joint(tmp_path: Path, cache: Path, clip: Path) -> Iterator[Collection]:
    """An empty collection with one model of both."""
    with Collection(tmp_path / "joint.omni", model=loaded(clip)) as collection:
        yield collection
