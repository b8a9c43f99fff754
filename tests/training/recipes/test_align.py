"""Two models brought into one space: the ways of learning heads, pairs from files, the folder, the command line."""

from __future__ import annotations

import dataclasses
import itertools
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner

import checkpoints
from omnivec.cli.train import command
from omnivec.errors import ModelError, UsageError, WeightsError
from omnivec.models.embedder import Embedder
from omnivec.models.joint import JointEmbedder
from omnivec.models.joint_folder import Joint, read_joint, write_joint
from omnivec.models.joint_folder import Side as Written
from omnivec.models.loading import load
from omnivec.testing import check_close, open_model
from omnivec.training import train
from omnivec.training.projector import ContrastiveOptions, SideNetwork, contrastive, tags
from omnivec.training.recipes.align import METHODS, Options, learn, read_items
from omnivec.vectors.alignment import Projection, recall
from omnivec.weights import safetensors
from patience import PATIENCE

WORDS = [
    "graph",
    "weights",
    "engine",
    "compiles",
    "naïve",
    "café",
    "owners",
    "quick",
    "brown",
    "fox",
    "jumps",
    "over",
    "lazy",
    "dog",
    "capital",
    "times",
]
TEXTS = [f"the {a} {b}" for a, b in itertools.permutations(WORDS, 2)]
np.random.default_rng(0).shuffle(TEXTS)


def planted(seed: int = 0, count: int = 500) -> list[np.ndarray]:
    """Two views of the same causes, each bent and mixed by itself."""
    rng = np.random.default_rng(seed)
    causes = rng.standard_normal((count, 8))
    views = []
    for dim in (24, 16):
        mixed = np.tanh(causes @ rng.standard_normal((8, dim)) / 2) + 0.1 * rng.standard_normal((count, dim))
        views.append(mixed.astype(np.float32))
    return views


SETTINGS = ContrastiveOptions(
    dim=12, hidden=48, epochs=25, batch_size=64, lr=3e-3, weight_decay=0.01, dropout=0.1, scale=10.0, seed=0
)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> tuple[Embedder, Embedder]:
    """Two models that have nothing in common but their texts."""
    place = tmp_path_factory.mktemp("two")
    checkpoints.bert(place / "a", seed=1, width=32, layers=1)
    checkpoints.bert(place / "b", seed=2, width=48, layers=1)
    return open_model(place / "a"), open_model(place / "b")


# --- learning -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_heads_find_partners_that_they_have_not_seen(method: str) -> None:
    left, right = planted()
    options = Options("a", "b", method=method, hidden=48, epochs=25, batch_size=64, lr=3e-3, dropout=0.1)
    heads, facts = learn(left[:400], right[:400], options)
    found = recall(heads.left(left[400:]), heads.right(right[400:]), 10)
    assert min(found) > (0.35 if method == "procrustes" else 0.75)  # by chance 0.1
    assert facts["held_out"] == 40 and facts["pairs"] == 400 and min(facts["recall@10"]) > 0.5
    assert facts["dim"] == heads.left.dims[1] == heads.right.dims[1]


def test_a_contrastive_head_is_the_network_that_learned() -> None:
    left, _ = planted(count=60)
    side = SideNetwork(left * 3, dataclasses.replace(SETTINGS, dropout=0.0))
    with torch.no_grad():
        expected = torch.nn.functional.normalize(side(np.arange(60)), dim=-1).numpy()
    check_close(side.head()(left), expected, "folded into two layers")


def test_the_same_seed_makes_the_same_heads_and_torch_is_left_as_it_was() -> None:
    left, right = planted(count=100)
    few = dataclasses.replace(SETTINGS, epochs=2)
    torch.manual_seed(7)
    expected = torch.rand(1)
    torch.manual_seed(7)
    one, two, other = (
        contrastive(left, right, dataclasses.replace(few, seed=seed)).left.layers[0][0] for seed in (3, 3, 4)
    )
    assert torch.rand(1) == expected
    np.testing.assert_array_equal(one, two)
    assert np.abs(one - other).max() > 1e-3


def test_equal_vectors_have_one_name() -> None:
    names = tags(np.array([[1, 2], [3, 4], [1, 2]], np.float32), "left")
    assert names[0] == names[2] != names[1] and names[0].startswith("left")


def test_strength_is_taken_as_given() -> None:
    left, right = planted(count=80)
    assert learn(left, right, Options("a", "b", strength=0.5))[1]["strength"] == 0.5
    assert "recall@10" not in learn(left, right, Options("a", "b", held_out=0.0, strength=0.5))[1]


def test_dimensions_that_cannot_be_are_refused() -> None:
    left, right = planted(count=40)
    assert learn(left, right, Options("a", "b", dim=5))[1]["dim"] == 5
    assert learn(left, right, Options("a", "b", method="contrastive", dim=99, epochs=1))[1]["dim"] == 99
    with pytest.raises(UsageError, match="dim=17: cca makes at most 16"):
        learn(left, right, Options("a", "b", dim=17))
    with pytest.raises(UsageError, match="ridge makes the right model's 16"):
        learn(left, right, Options("a", "b", method="ridge", dim=5))
    with pytest.raises(UsageError, match="method='pca' is none of ridge, cca, procrustes, contrastive"):
        Options("a", "b", method="pca")
    with pytest.raises(UsageError, match="held_out"):
        Options("a", "b", held_out=1.0)


# --- the recipe ---------------------------------------------------------------------------------------------------


def test_two_models_meet_in_one_space(models: tuple[Embedder, Embedder], tmp_path: Path, capsys: Any) -> None:
    pairs = [(text, text) for text in TEXTS]
    joint = train("align", pairs[:200], left=models[0], right=models[1], show_progress_bar=False)
    assert isinstance(joint, JointEmbedder) and joint.dim == 32 and 1 < joint.scale <= 100
    assert "held-out pairs the partner is among the first 10" in capsys.readouterr().err
    a, b = joint.left.encode(TEXTS[200:]), joint.right.encode(TEXTS[200:])
    assert a.shape == b.shape == (len(TEXTS) - 200, 32) and a.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(a, axis=1), 1, rtol=1e-5)
    assert min(recall(a, b, 3)) > 0.8  # by chance 0.08
    np.testing.assert_allclose(joint.left.encode(TEXTS[200]), a[0], atol=1e-5)

    saved = joint.save(tmp_path / "joint")
    said = json.loads((saved / "config.json").read_text())
    assert (said["model_type"], said["dim"], said["left"]["layers"]) == ("joint", 32, 1)
    assert said["left"]["name"] == models[0].name and said["scale"] == joint.scale
    assert said["training"]["method"] == "cca" and said["training"]["pairs"] == 200
    read = read_joint(saved)
    assert read.dim == 32
    again = load(saved, precision="float32")
    assert isinstance(again, JointEmbedder)
    for name, right in (("left", a), ("right", b)):
        plain = Projection(read.sides[name].layers)(open_model(saved / name).encode(TEXTS[200:]))
        check_close(plain, right, f"{name}, its model and its head")
        check_close(getattr(again, name).encode(TEXTS[200:]), right, f"{name}, loaded")


def test_what_cannot_be_embedded_costs_its_pair_only(models: tuple[Embedder, Embedder], capsys: Any) -> None:
    pairs = [(text, text) for text in TEXTS[:60]]
    expected = train("align", pairs, left=models[0], right=models[1], strength=0.1, held_out=0.0)
    bad: list[Any] = [*pairs[:30], (object(), "x"), ("y", b"no text"), *pairs[30:]]
    found = train("align", bad, left=models[0], right=models[1], strength=0.1, held_out=0.0)
    assert isinstance(found, JointEmbedder) and isinstance(expected, JointEmbedder)
    said = capsys.readouterr().err
    assert "left item of pair 30 is left out" in said and "2 of 62 pairs are left out" in said
    check_close(found.left.encode(TEXTS[:5]), expected.left.encode(TEXTS[:5]), "without the bad pairs", 1e-4)
    with pytest.raises(UsageError, match="of 5 pairs 0 can be embedded"):
        train("align", [(object(), "x")] * 5, left=models[0], right=models[1])


def test_an_item_in_many_pairs_is_embedded_once(
    models: tuple[Embedder, Embedder], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    right = Embedder.run

    def run(self: Embedder, items: Any, **options: Any) -> Any:
        seen.append(len(items))
        return right(self, items, **options)

    monkeypatch.setattr(Embedder, "run", run)
    pairs = [(text, TEXTS[i % 4]) for i, text in enumerate(TEXTS[:40])]
    train("align", pairs, left=models[0], right=models[1], strength=0.1)
    assert seen == [40, 4]


def test_from_the_command_line(models: tuple[Embedder, Embedder], tmp_path: Path) -> None:
    for name, model in zip("ab", models, strict=True):
        model.save(tmp_path / name)
    file = tmp_path / "pairs.csv"
    file.write_text("right,left,more\n" + "".join(f"{text},{text},x\n" for text in TEXTS[:80]))
    given = ["align", str(file), "-o", str(tmp_path / "joint"), "--method", "ridge"]
    given += ["--left", str(tmp_path / "a"), "--right", str(tmp_path / "b")]
    done = CliRunner().invoke(command, given, catch_exceptions=False)
    assert done.exit_code == 0 and "saved to" in done.output
    assert read_joint(tmp_path / "joint").dim == 48
    help_text = CliRunner().invoke(command, ["align", "--help"]).output
    assert "--left" in help_text and "regularisation of cca and ridge" in " ".join(help_text.split())


def test_a_joint_model_is_no_side_of_another(models: tuple[Embedder, Embedder]) -> None:
    pairs = [(text, text) for text in TEXTS[:40]]
    joint = train("align", pairs, left=models[0], right=models[1], strength=0.1, held_out=0.0)
    with pytest.raises(UsageError, match="is a joint model itself"):
        train("align", pairs, left=joint, right=models[1])


def test_the_scale_is_the_likeliest_of_pairs_that_were_held_out() -> None:
    left, right = planted()
    heads, _ = learn(left, right, Options("a", "b", strength=0.1))
    assert heads.scale == learn(left, right, Options("a", "b", strength=0.1))[0].scale
    alike = learn(left, left, Options("a", "b", strength=0.1))[0].scale
    assert 2 < heads.scale < alike  # who is surer has the higher scale


# --- pairs --------------------------------------------------------------------------------------------------------

READ_AS = (lambda cell, folder: folder / cell, lambda cell, folder: cell)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("pairs.csv", 'left,right\na.png,"one, two"\nb.png,three\nc.png,four\nd/e.png,five\n'),
        ("pairs.csv", 'Right,score,LEFT\n"one, two",1,a.png\nthree,1,b.png\nfour,2,c.png\nfive,3,d/e.png\n'),
        ("pairs.tsv", "a.png\tone, two\nb.png\tthree\n\nc.png\tfour\nd/e.png\tfive\n"),
    ],
)
def test_pairs_from_files(tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / name).write_text(content)
    names = ["a.png", "b.png", "c.png", "d/e.png"]
    expected = [
        (tmp_path / one, other)
        for one, other in zip(names, ["one, two", "three", "four", "five"], strict=True)
    ]
    assert read_items(tmp_path / name, READ_AS) == expected
    assert read_items(str(tmp_path / name), READ_AS) == expected


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("a,b\nc,d\n", "2 pairs; at least 4"),
        ("a,b\nc\ne,f\ng,h\n", r"1 of 4 rows cannot be used \(line 2: the right item is empty\)"),
        ("a,b\nc, \ne,f\ng,h\n", r"1 of 4 rows cannot be used \(line 2: the right item is empty\)"),
        ("left,to\na,b\n", "the columns left, to name only left: right is missing"),
        ('a,b\n"c,d\n', "pairs.csv line 2: unexpected end of data"),
        ("", "0 pairs"),
    ],
)
def test_files_that_hold_no_pairs_are_refused_in_one_line(tmp_path: Path, content: str, said: str) -> None:
    file = tmp_path / "pairs.csv"
    file.write_text(content)
    with pytest.raises(UsageError, match=said) as caught:
        read_items(file, READ_AS)
    assert "\n" not in str(caught.value)


def test_data_that_is_no_pairs_is_refused(tmp_path: Path) -> None:
    for data, said in (
        ([("a", "b"), ("c",)], "item 1: a tuple, expected a pair"),
        (["ab"] * 9, "item 0: 'ab', expected a pair"),
        ({"a": "b"}, "data is a dict, which holds columns: give its rows"),
        (tmp_path / "pairs.json", "pairs come from .csv, .tsv"),
        (tmp_path / "none.csv", "none.csv cannot be read: does not exist"),
    ):
        with pytest.raises(UsageError, match=said):
            read_items(data, READ_AS)


# --- the folder ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["cca", "contrastive"])
def test_heads_come_back_as_they_were(tmp_path: Path, method: str) -> None:
    left, right = planted(count=80)
    heads, facts = learn(left, right, Options("a", "b", method=method, epochs=2))
    sides = (Written("org/a", heads.left.layers), Written("org/b", heads.right.layers))
    write_joint(Joint(*sides, heads.scale, facts), tmp_path)
    read = read_joint(tmp_path)
    assert (read.left.name, read.right.name, read.scale) == ("org/a", "org/b", heads.scale)
    assert read.training == json.loads(json.dumps(facts)) and read.dim == facts["dim"]
    np.testing.assert_array_equal(Projection(read.left.layers)(left), heads.left(left))
    np.testing.assert_array_equal(Projection(read.right.layers)(right), heads.right(right))


def test_folders_that_are_damaged_are_told(tmp_path: Path) -> None:
    left, right = planted(count=40)
    heads, _ = learn(left, right, Options("a", "b", strength=0.1))

    def written() -> dict[str, np.ndarray]:
        write_joint(Joint(Written("a", heads.left.layers), Written("b", heads.right.layers), 9.0), tmp_path)
        tensors = safetensors.read_safetensors(tmp_path / "heads.safetensors")
        return {name: tensor.float32().copy() for name, tensor in tensors.items()}

    def spoilt(said: str, **changes: np.ndarray) -> None:
        tensors = written() | {name.replace("_", "."): value for name, value in changes.items()}
        safetensors.save(tmp_path / "heads.safetensors", tensors)
        with pytest.raises(WeightsError, match=said):
            read_joint(tmp_path)

    spoilt("do not fit", left_0_bias=np.zeros(3, np.float32))
    spoilt(
        "they must be equal",
        right_0_weight=np.zeros((3, 16), np.float32),
        right_0_bias=np.zeros(3, np.float32),
    )
    tensors = written()
    del tensors["right.0.bias"]
    safetensors.save(tmp_path / "heads.safetensors", tensors)
    with pytest.raises(WeightsError, match=r"lacks 'right\.0\.bias'"):
        read_joint(tmp_path)
    for said, why in (
        ('{"model_type": "joint", "left": {"name": "a"}}', "lacks left.layers: a whole number"),
        ((tmp_path / "config.json").read_text().replace("9.0", '"much"'), "scale is 'much', where a number"),
        ((tmp_path / "config.json").read_text().replace("9.0", "-1"), "scale is -1.0, where a number from"),
    ):
        (tmp_path / "config.json").write_text(said)
        with pytest.raises(ModelError, match=why) as caught:
            read_joint(tmp_path)
        assert "\n" not in str(caught.value)


WITHOUT_TORCH = """
import sys
sys.modules["torch"] = None
import numpy as np, omnivec
from omnivec.models.keyed import key_table

names = [f"user {i}" for i in range(50)]
drawn = np.random.default_rng(0).standard_normal((50, 8)).astype(np.float32)
sides = {"left": key_table(names, drawn), "right": key_table(names, drawn @ drawn[:8] / 4)}
pairs = [(omnivec.Key(name), omnivec.Key(name)) for name in names]
for method in ("cca", "ridge", "procrustes"):
    joint = omnivec.train("align", pairs, method=method, **sides)
    joint.save(f"{sys.argv[1]}/{method}")
    assert np.isfinite(omnivec.load(f"{sys.argv[1]}/{method}").left.encode(pairs[0][0])).all()
try:
    omnivec.train("align", pairs, method="contrastive", **sides)
except omnivec.errors.MissingExtra as error:
    print(error)
"""


def test_all_methods_but_contrastive_train_without_torch(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH, str(tmp_path)], capture_output=True, text=True, timeout=PATIENCE
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "training align needs torch: pip install 'omnivec[train]'\n"
