"""Every recipe is run with its defaults, saved, loaded and used, in Python and from the command line."""

from __future__ import annotations

import importlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

import checkpoints
import omnivec
from omnivec.cli.train import command
from omnivec.errors import ModelError, UsageError
from omnivec.training.recipe_registry import recipes
from omnivec.training.recipes import phrases

pytest.importorskip("numba")

WORDS = sorted({word for word in checkpoints.TEXT.lower().split() if word.isalpha()})
RANDOM = np.random.default_rng(0)
LINES = [" ".join(RANDOM.choice(WORDS, 6)) for _ in range(80)]
PAIRS = [(line, " ".join(reversed(line.split()))) for line in dict.fromkeys(LINES)]


NUMBERS_NEEDED = {"dim": 16, "threads": 1}


@dataclass(frozen=True)
class Case:
    """A recipe with data for it and what it cannot do without here; otherwise its defaults."""

    data: Any
    file: str
    text: str
    needs: tuple[str, ...] = ()


def rows(pairs: list[tuple[str, str]], names: tuple[str, str]) -> str:
    return "\n".join(json.dumps(dict(zip(names, pair, strict=True))) for pair in pairs)


LABELLED = [(line, str(i % 3)) for i, line in enumerate(LINES)]
TABS = "left\tright\n" + "\n".join(f"{a}\t{b}" for a, b in PAIRS)
CASES = {
    **{
        name: Case(LINES, "text.txt", "\n".join(LINES))
        for name in ("word2vec", "fasttext", "glove", "doc2vec", "phrases")
    },
    "fasttext_supervised": Case(LABELLED, "rows.jsonl", rows(LABELLED, ("text", "label"))),
    "contrastive": Case(PAIRS, "rows.jsonl", rows(PAIRS, ("anchor", "positive")), ("model",)),
    # A teacher of 32 components cannot fill the default 256; torch's threads wait for one another on a busy machine.
    "distill": Case(LINES, "text.txt", "\n".join(LINES), ("teacher", "dim", "threads")),
    "align": Case(PAIRS, "rows.tsv", TABS, ("left", "right")),
}


def test_no_recipe_is_forgotten() -> None:
    assert set(CASES) == set(recipes())


@pytest.mark.parametrize("recipe", CASES)
def test_defaults_are_trained_saved_loaded_and_used(recipe: str, folder: Path, tmp_path: Path) -> None:
    case = CASES[recipe]
    needs: dict[str, Any] = {name: NUMBERS_NEEDED.get(name, str(folder)) for name in case.needs}
    model = omnivec.train(recipe, case.data, **needs)
    place = model.save(tmp_path / "saved")
    if recipe not in ("phrases", "distill"):
        assert None not in [model.training.options.get(name, 0) for name in ("lr", "min_lr", "threads")]
    (tmp_path / case.file).write_text(case.text, encoding="utf-8")
    flags = [part for name, value in needs.items() for part in (f"--{name}", str(value))]
    done = CliRunner().invoke(
        command, [recipe, str(tmp_path / case.file), "-o", str(tmp_path / "by_command"), *flags]
    )
    assert done.exit_code == 0, done.output
    for saved in (place, tmp_path / "by_command"):
        if recipe == "phrases":
            assert phrases.load(saved) == model
            continue
        loaded: Any = omnivec.load(saved)
        if recipe == "align":  # both sides read texts, so that one of them must be meant
            loaded, model = loaded.left, getattr(model, "left", model)
        vectors = loaded.encode(LINES[:3])
        assert vectors.shape == (3, loaded.dim) and np.isfinite(vectors).all() and vectors.any(axis=1).all()
        if saved == place:
            np.testing.assert_allclose(vectors, model.encode(LINES[:3]), atol=1e-5)
        if recipe == "fasttext_supervised":
            assert {label for [(label, _)] in loaded.predict(LINES[:9])} <= {"0", "1", "2"}
        settings = json.loads((saved / "config.json").read_text(encoding="utf-8"))
        assert "lr" not in settings or settings["lr"] is not None


@pytest.mark.parametrize(
    ("recipe", "options"),
    [
        ("word2vec", {"lr": 1e8}),
        ("word2vec", {"lr": 1e8, "sg": 0}),
        ("word2vec", {"lr": 1e8, "hs": True}),
        ("fasttext", {"lr": 50.0}),
        ("fasttext", {"lr": 50.0, "sg": 0}),
        ("fasttext_supervised", {"lr": 1e6}),
        ("doc2vec", {"lr": 1e6}),
        ("doc2vec", {"lr": 1e6, "dm": False}),
        ("glove", {"lr": 1e30}),
        ("contrastive", {"lr": 1e30, "steps": 3}),
        ("distill", {"lr": 1e30, "dim": 8, "texts": 40}),
        ("align", {"method": "contrastive", "lr": 1e30, "epochs": 2, "dropout": 0.0}),
    ],
)
def test_numbers_that_are_not_finite_are_an_error(recipe: str, options: dict[str, Any], folder: Path) -> None:
    needs = {name: str(folder) for name in CASES[recipe].needs if name not in NUMBERS_NEEDED}
    with pytest.raises(ModelError, match=r"(epoch|step) \d+.*at lr=[\d.e+]+: use a smaller lr") as raised:
        omnivec.train(recipe, CASES[recipe].data, **needs, **options)
    assert "\n" not in str(raised.value)


NUMBERS = [
    (recipe.name, option.name, option.type)
    for recipe in recipes().values()
    for option in recipe.options
    if {"int", "float"} & set(option.type.replace("|", " ").split())
]


@pytest.mark.parametrize(("recipe", "name", "kind"), NUMBERS)
def test_each_number_has_limits(recipe: str, name: str, kind: str) -> None:
    record: Any = importlib.import_module(f"omnivec.training.recipes.{recipe}").Options
    needs = {option.name: "x" for option in recipes()[recipe].options if option.required}
    for value in (-1, *((float("nan"), float("inf")) if "float" in kind else ())):
        if name in ("threshold", "ns_exponent") and value == -1:
            continue
        with pytest.raises(UsageError, match=f"^{name}={value}: "):
            record(**{**needs, name: value})


def test_a_function_is_no_option_of_the_command_line() -> None:
    for recipe in recipes().values():
        functions = [option.name for option in recipe.options if option.is_callable]
        shown = CliRunner().invoke(command, [recipe.name, "--help"]).output
        assert not [name for name in functions if f"--{name.replace('_', '-')}" in shown]
    assert {"on_epoch", "on_step"} == {o.name for r in recipes().values() for o in r.options if o.is_callable}


@pytest.mark.parametrize(
    "options", [{"dim": 0}, {"window": 0}, {"epochs": 0}, {"lr": -0.1}, {"lr": 0.0}, {"sg": 2}]
)
def test_options_that_train_nothing_are_refused_by_name(options: dict[str, Any]) -> None:
    [(name, value)] = options.items()
    with pytest.raises(UsageError, match=f"^{name}={value}: (at least|[01] to)"):
        omnivec.train("word2vec", LINES, **options)


def test_n_grams_of_no_length_are_refused() -> None:
    for recipe in ("fasttext", "fasttext_supervised"):
        with pytest.raises(UsageError, match="min_n=5 is above max_n=4"):
            omnivec.train(recipe, [], min_n=5, max_n=4)
