"""CLAP's feature fusion of long sounds against transformers: front end, every hidden state, vectors; wrong formulas."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from transformers import ClapFeatureExtractor

import omnivec
from claps import FRAMES, check, complete, executable, expected, extractor, long_spectrograms, made, ours
from encoders import ENGINES
from omnivec import Audio, Collection, ItemErrors
from omnivec.errors import WeightsError
from omnivec.families import _clap_fusion, clap
from omnivec.inputs.audio.features import CLAP_FUSED, fixed_length
from omnivec.inputs.audio.features.fixed_length import PICTURES, resized, starts
from omnivec.ops.base import Params
from omnivec.ops.torch import TorchOps
from omnivec.testing import check_close, check_rejected
from omnivec.types import Floats
from omnivec.vectors.unit import unit
from pictures import read
from sounds import speechlike

RATE = 48_000


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("clap")


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    folder = tmp_path_factory.mktemp("fused")
    return folder, complete(folder, "fused")


# --- the network ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("kind", ["fused", "fused, overlapping"])
@pytest.mark.parametrize("longer", [[True], [True, False, True]])
def test_batches_of_long_and_short_sounds_equal_transformers(
    root: Path, kind: str, engine: str, longer: list[bool]
) -> None:
    folder, model = made(kind, root)
    batch = long_spectrograms(model, longer, seed=len(longer))
    got = executable(folder, engine, "audio").run(batch)
    check(got, expected(model, "audio", batch), batch, engine)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_vector_does_not_depend_on_whether_others_are_long(root: Path, engine: str) -> None:
    folder, model = made("fused", root)
    batch, one = long_spectrograms(model, [False, True, False]), executable(folder, engine, "audio")
    whole = one.run(batch)["vector"]
    for i in range(3):
        alone = {name: array[i : i + 1] for name, array in batch.items()}
        check_close(one.run(alone)["vector"][0], whole[i], f"sound {i} by itself")


def test_both_maps_count_in_the_small_checkpoint(root: Path) -> None:
    """Otherwise it would not show which map is weighted by what."""
    _, model = made("fused", root)
    shares: list[torch.Tensor] = []
    hook = model.audio_model.audio_encoder.patch_embed.fusion_model.sigmoid.register_forward_hook(
        lambda _, given, out: shares.append(out)
    )
    expected(model, "audio", long_spectrograms(model, [True, True]))
    hook.remove()
    assert 0.2 < shares[0].mean() < 0.8 and shares[0].std() > 0.1, (shares[0].mean(), shares[0].std())


def replaced(name: str, wrong: Callable[..., Any], module: Any = _clap_fusion) -> Any:
    """A forward with one function replaced; `wrong` gets the right one first."""

    def forward(*args: Any) -> Any:
        right = getattr(module, name)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(module, name, lambda *given: wrong(right, *given))
            return clap.forward_audio(*args)

    return forward


def operation(name: str, wrong: Callable[..., Any]) -> Any:
    """A forward with one operation replaced, within `fuse` only; `wrong` gets the right one first."""

    def fuse(right: Any, ops: Any, *rest: Any) -> Any:
        kept = getattr(ops, name)
        setattr(ops, name, lambda *args, **how: wrong(kept, *args, **how))
        try:
            return right(ops, *rest)
        finally:
            setattr(ops, name, kept)

    return replaced("fuse", fuse, clap)


def of_parts(change: Callable[[list[Any]], list[Any]]) -> Any:
    """A forward with the three parts changed before they are fused."""
    return replaced(
        "fuse", lambda right, ops, p, whole, parts, *rest: right(ops, p, whole, change(parts), *rest), clap
    )


def one_branch(kept: int) -> Any:
    """A forward in which only the local (0) or the global (1) branch decides."""
    return replaced(
        "_bottleneck",
        lambda right, ops, p, x, first: right(ops, p, x, first) * (1.0 if first == kept else 0.0),
    )


def narrow(right: Any, x: Any, p: Any, stride: list[int], *rest: Any) -> Any:
    """Patches of parts at each step of the whole's patches; the first third of them."""
    if stride[0] == stride[1]:
        return right(x, p, stride, *rest)
    return right(x, p, [stride[0]] * 2, *rest)[..., : right(x, p, stride, *rest).shape[3]]


VARIANTS: dict[str, Any] = {
    "parts in the other order": of_parts(lambda parts: parts[::-1]),
    "the middle part first": of_parts(lambda parts: [parts[1], parts[0], parts[2]]),
    "the first part three times": of_parts(lambda parts: parts[:1] * 3),
    "no global branch": one_branch(0),
    "no local branch": one_branch(1),
    "no sigmoid": operation("sigmoid", lambda right, x: x),
    "no ReLU": operation("relu", lambda right, x: x),
    "no batch norms": operation("batch_norm", lambda right, x, *rest: x),
    "parts in patches of a third": operation("conv", narrow),
    "zeros before the parts": operation("pad", lambda right, x, before, after: right(x, after, before)),
    "whole and parts exchanged": replaced(
        "_attended", lambda right, ops, p, whole, parts: right(ops, p, parts, whole)
    ),
    "not doubled": replaced("_attended", lambda right, *args: right(*args) / 2.0),
    "the plain sum": replaced("_attended", lambda right, ops, p, whole, parts: whole + parts),
    "every sound long": replaced("is_longer", lambda right, *args: right(*args) * 0.0 + 1.0, clap),
    "no sound long": replaced("is_longer", lambda right, *args: right(*args) * 0.0, clap),
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_wrong_fusions_are_told_apart(root: Path, variant: str) -> None:
    folder, model = made("fused, overlapping", root)
    batch = long_spectrograms(model, [True, False])
    right = expected(model, "audio", batch)["vector"]
    got = executable(folder, "torch", "audio", VARIANTS[variant]).run(batch)["vector"][:, 0]
    check_rejected(got, right, variant)
    check_close(executable(folder, "torch", "audio").run(batch)["vector"][:, 0], right, "the right one")


def test_a_checkpoint_without_the_weights_of_its_fusion_is_refused(root: Path) -> None:
    folder, model = made("fused", root)
    state = {n: t for n, t in model.state_dict().items() if "fusion_model" not in n}
    published = {"audio_config": model.config.audio_config.to_dict()}
    assert "audio_model.audio_encoder.patch_embed.mel_conv2d.weight" in ours(folder).tensors
    found = read(clap, published, state)
    with pytest.raises(WeightsError, match=r"the weights lack '.*fusion_model"):
        _run_without_engine(found)


def _run_without_engine(found: Any) -> None:
    values = {name: torch.from_numpy(t.float32().copy()) for name, t in found.tensors.items()}
    batch = SimpleNamespace(
        sound=torch.zeros(1, PICTURES * FRAMES, 64), lengths=torch.tensor([FRAMES], dtype=torch.int32)
    )
    clap.forward_audio(TorchOps(), Params(values, values.__getitem__), found.config, batch)


# --- the front end --------------------------------------------------------------------------------------------------


def draws() -> Callable[[Any], int]:
    """transformers' draws as ours, from the places of each third: the first, the middle, the last."""
    place = iter([0, None, -1] * 100)

    def choice(places: Any) -> int:
        at = next(place)
        return int(places[len(places) // 2 if at is None else at])

    return choice


@functools.cache
def theirs(count: int) -> Floats:
    """transformers' spectrograms of `sound(count)`: (4 * 1001, 64)."""
    front = ClapFeatureExtractor(frequency_min=50, truncation="fusion")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(np.random, "choice", draws())
        batch = front(sound(count), sampling_rate=RATE, return_tensors="np")
    features: Floats = batch["input_features"][0].reshape(-1, 64)
    return features


@functools.cache
def voice() -> Floats:
    return speechlike(25.0, RATE, seed=3)


def sound(count: int) -> Floats:
    return voice()[:count]


@pytest.mark.parametrize("count", [480_480, 480_960, 700_001])
def test_the_spectrograms_of_a_long_sound_equal_transformers(count: int) -> None:
    rows = CLAP_FUSED(sound(count))
    assert rows.shape == (4 * FRAMES, 64) and CLAP_FUSED.count(count) == 4 * FRAMES
    np.testing.assert_allclose(rows, theirs(count), atol=4e-3)  # decibels


@pytest.mark.parametrize("count", [480_001, 480_479])
def test_a_sound_of_as_many_frames_as_ten_seconds_is_not_long(count: int) -> None:
    rows, right = CLAP_FUSED(sound(count)), theirs(count)
    assert rows.shape == (FRAMES, 64) and CLAP_FUSED.count(count) == FRAMES
    np.testing.assert_allclose(np.tile(rows, (4, 1)), right, atol=2e-3)


def test_parts_begin_where_transformers_may_draw_them() -> None:
    assert starts(3001, 1001) == [0, 1000, 2000]  # 30 s are heard completely
    for total in (1002, 1003, 1004, 1500, 2002, 60_001):
        thirds = np.array_split(np.arange(total - 1000), 3)
        for start, places in zip(starts(total, 1001), thirds, strict=True):
            assert start in (places if len(places) else [0])


@pytest.mark.parametrize("old", [1002, 1337, 2002, 2501, 60_001])
def test_rows_are_resized_as_torch_does_it(old: int) -> None:
    rows = np.random.default_rng(0).standard_normal((old, 3)).astype(np.float32)
    right = torch.nn.functional.interpolate(
        torch.from_numpy(rows)[None, None], (FRAMES, 3), mode="bilinear", align_corners=False
    )
    check_close(resized(rows, FRAMES), right[0, 0].numpy(), f"{old} to {FRAMES}")


def torch_resized(**how: Any) -> Callable[[Floats, int], Floats]:
    def of(rows: Floats, count: int) -> Floats:
        image = torch.from_numpy(rows)[None, None]
        out: Floats = torch.nn.functional.interpolate(image, (count, rows.shape[1]), **how)[0, 0].numpy()
        return out

    return of


WRONG_FRONT_ENDS: dict[str, tuple[str, Any]] = {
    "nearest rows": ("resized", torch_resized(mode="nearest")),
    "ends kept in place": ("resized", torch_resized(mode="bilinear", align_corners=True)),
    "antialiased": ("resized", torch_resized(mode="bilinear", align_corners=False, antialias=True)),
    "means of rows": ("resized", torch_resized(mode="area")),
    "cut off, not resized": ("resized", lambda rows, count: rows[:count]),
    "the last part first": ("starts", lambda total, frames: starts(total, frames)[::-1]),
    "three first parts": ("starts", lambda total, frames: [0, 0, 0]),
}


@pytest.mark.parametrize("variant", WRONG_FRONT_ENDS)
def test_wrong_front_ends_are_told_apart(variant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    samples, right = sound(700_001), theirs(700_001)
    check_close(CLAP_FUSED(samples), right, "the right one", 5e-5)
    monkeypatch.setattr(fixed_length, *WRONG_FRONT_ENDS[variant])
    check_rejected(CLAP_FUSED(samples), right, variant, 1e-3)


# --- from sounds to vectors -----------------------------------------------------------------------------------------


def test_vectors_of_sounds_equal_transformers(
    loaded: tuple[Path, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, model = loaded
    clips = [voice()[:100_000], voice(), voice()[:480_000], voice()[300_000:820_000]]
    monkeypatch.setattr(np.random, "choice", draws())
    batch = extractor(model)(clips, sampling_rate=RATE, return_tensors="pt")
    assert batch["is_longer"][:, 0].tolist() == [False, True, False, True]
    fed = np.stack([four(clip) for clip in clips])
    np.testing.assert_allclose(fed, batch["input_features"].flatten(1, 2), atol=4e-3)
    with torch.no_grad():
        right = model.get_audio_features(**batch).pooler_output.numpy()
    lengths = np.where(batch["is_longer"][:, 0], PICTURES * FRAMES, FRAMES)
    exact = unit(expected(model, "audio", {"sound": fed, "lengths": lengths})["vector"])
    for engine in ENGINES:
        ours = omnivec.load(folder, engine=engine, precision="float32")
        run = ours.run([Audio(clip, RATE) for clip in clips])
        check_close(run.vectors, exact, engine)
        check_close(run.vectors, right, engine, 1e-4)  # the front end's rounding included
        assert run.seen.tolist() == [len(clip) / RATE for clip in clips] and not run.lost.any()
        check_close(ours.encode(Audio(voice(), RATE)), exact[1], "by itself")


def four(samples: Floats) -> Floats:
    """Our spectrograms as transformers gets them, a short sound's four times: (4 * 1001, 64)."""
    rows = CLAP_FUSED(samples)
    return rows if len(rows) > FRAMES else np.tile(rows, (PICTURES, 1))


def test_what_is_beyond_the_longest_fused_sound_is_cut_off_with_a_word(
    loaded: tuple[Path, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clap, "_WHOLE", 20.0)
    model = omnivec.load(loaded[0], precision="float32")
    long = Audio(voice(), RATE)
    first, last = model.encode([Audio(voice()[:960_000], RATE), Audio(voice()[-960_000:], RATE)])
    run = model.run([long])
    assert (run.seen.tolist(), run.lost.tolist()) == ([20.0], [5.0])
    check_close(run.vectors[0], first, "the first 20 s")
    check_close(model.encode(long, truncate="head"), last, "the last 20 s")
    with pytest.raises(ItemErrors, match=r"lasts 25\.000 s, over the model's limit of 20 s"):
        model.encode(long, truncate="error")


def test_a_collection_keeps_windows_of_a_long_sound(loaded: tuple[Path, Any], tmp_path: Path) -> None:
    model = omnivec.load(loaded[0])
    with Collection(tmp_path / "sounds.omni", model=loaded[0]) as notes:
        assert notes.add([Audio(voice(), RATE)], ids=["long"]).passages == 3
        hits = notes.search(Audio(voice()[480_000:960_000], RATE), 3)
        assert {hit.span for hit in hits} == {(0, 10), (10, 20), (20, 25)} and hits[0].span == (10, 20)
        score = float(
            model.encode(Audio(voice()[480_000:960_000], RATE)) @ model.encode(Audio(voice(), RATE))
        )
        whole = {hit.span: hit.score for hit in notes.search(Audio(voice(), RATE), 3)}
        assert whole[10, 20] == pytest.approx(score, abs=2e-3)  # a query is read whole
