"""Copies of photographs in files: groups, what is kept, reasons, and files that cannot be read."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from PIL import Image

import omnivec
import photographs
from omnivec import hub
from omnivec.errors import UsageError
from omnivec.models import registry
from omnivec.tasks.duplicates import Found, find_copies


@pytest.fixture(scope="module")
def lite() -> omnivec.Embedder:
    return omnivec.load(hub.resolve("efficientnet-lite0", known=registry.known()).folder)


def written(folder: Path, name: str) -> dict[str, Path]:
    """A photograph and its copies, by the reason that is to be given."""
    image = photographs.rgb(name)
    width, height = image.size
    paths = {
        why: folder / f"{name}-{why}{suffix}"
        for why, suffix in (
            ("keep", ".png"),
            ("exact", ".png"),
            ("recompressed", ".jpg"),
            ("resized", ".jpg"),
            ("cropped", ".png"),
        )
    }
    image.save(paths["keep"])
    shutil.copy(paths["keep"], paths["exact"])
    image.save(paths["recompressed"], quality=40)
    image.resize((width // 3, height // 3), Image.Resampling.BICUBIC).save(paths["resized"], quality=80)
    image.crop((width // 10, 0, width, height - height // 10)).save(paths["cropped"])
    return paths


def shown(found: Found) -> dict[Path, dict[Path, str]]:
    return {group.keep.path: {copy.file.path: copy.why for copy in group.copies} for group in found.groups}


def test_groups_reasons_and_what_is_kept(lite: omnivec.Embedder, tmp_path: Path) -> None:
    names = ("astronaut", "china", "coins")
    made = [written(tmp_path, name) for name in names]
    for name in ("camera", "moon", "grass", "rocket"):
        photographs.rgb(name).save(tmp_path / f"{name}.png")
    (tmp_path / "bad.png").write_text("none")
    paths = sorted(tmp_path.iterdir(), reverse=True)
    found = find_copies([*paths, tmp_path / "absent.png"], lite)
    expected = {}
    for own in made:
        # Of equal bytes the first that was given.
        expected[own["keep"]] = {path: why for why, path in own.items() if why != "keep"}
    assert shown(found) == expected
    assert found.files == 19 and set(found.failures) == {tmp_path / "bad.png", tmp_path / "absent.png"}
    for group in found.groups:
        assert all(copy.of == group.keep.path for copy in group.copies)
        assert all(0.66 <= copy.score <= 1 for copy in group.copies)
        assert group.keep.size == group.keep.path.stat().st_size
    assert [(group.keep.width, group.keep.height) for group in found.groups][-1] == (512, 512)


def test_what_nothing_was_cut_off_is_kept_though_a_crop_is_larger(
    lite: omnivec.Embedder, tmp_path: Path
) -> None:
    image = photographs.rgb("coffee")
    image.save(tmp_path / "whole.png")
    cut = image.crop((60, 0, 600, 400))
    cut.resize((1080, 800), Image.Resampling.BICUBIC).save(tmp_path / "large.png")
    found = find_copies([tmp_path / "large.png", tmp_path / "whole.png"], lite)
    assert shown(found) == {tmp_path / "whole.png": {tmp_path / "large.png": "cropped"}}


def test_images_without_anything_to_see_are_copies_by_their_bytes_alone(
    lite: omnivec.Embedder, tmp_path: Path
) -> None:
    for name, colour in (("a", "white"), ("b", "white"), ("c", "black")):
        Image.new("RGB", (80, 60), colour).save(tmp_path / f"{name}.png")
    Image.new("RGB", (160, 120), "white").save(tmp_path / "d.png")
    found = find_copies(sorted(tmp_path.iterdir()), lite)
    assert shown(found) == {tmp_path / "a.png": {tmp_path / "b.png": "exact"}}
    assert find_copies([], lite).groups == ()


def test_a_model_of_texts_is_refused(minilm: Path) -> None:
    with pytest.raises(UsageError, match="reads texts, not images"):
        find_copies([], omnivec.load(minilm))


def test_of_equal_files_in_one_folder_the_shortest_name_is_kept(
    lite: omnivec.Embedder, tmp_path: Path
) -> None:
    (tmp_path / "later").mkdir()
    paths = [tmp_path / "cat copy.png", tmp_path / "cat.png", tmp_path / "later" / "c.png"]
    photographs.rgb("chelsea").save(paths[0])
    for path in paths[1:]:
        shutil.copy(paths[0], path)
    [group] = find_copies(paths, lite).groups
    assert group.keep.path == paths[1] and [copy.file.path for copy in group.copies] == [paths[0], paths[2]]
