"""One image laid over another: where it is found, and what is none of it."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

import photographs
from omnivec.inputs.image import crops
from omnivec.inputs.image.crops import find, grey


@pytest.mark.parametrize("name", ["astronaut", "china", "coins", "page"])
@pytest.mark.parametrize("zoom", [1.0, 0.5])
def test_a_crop_is_found_where_it_was_cut(name: str, zoom: float) -> None:
    image = photographs.rgb(name)
    width, height = image.size
    box = (round(0.15 * width), round(0.05 * height), round(0.95 * width), round(0.9 * height))
    part = image.crop(box)
    part = part.resize((round(part.width * zoom), round(part.height * zoom)), Image.Resampling.BICUBIC)
    place = find(grey(image), grey(photographs.encoded(part, "JPEG", quality=75)))
    assert place is not None
    found = (place.left, place.upper, place.left + place.width, place.upper + place.height)
    np.testing.assert_allclose(found, (0.15, 0.05, 0.95, 0.9), atol=0.015)
    assert place.explained > 0.8 and place.detail > 0.7


@pytest.mark.parametrize("size", [(256, 256), (512, 512), (128, 128), (512, 460)])
def test_all_of_it_in_another_size(size: tuple[int, int]) -> None:
    image = photographs.rgb("astronaut")
    place = find(grey(image), grey(image.resize(size, Image.Resampling.BICUBIC)))
    assert place is not None and (place.left, place.upper, place.width, place.height) == (0, 0, 1, 1)
    assert place.explained > 0.97


def test_other_photographs_and_other_parts_are_none_of_it() -> None:
    names = list(photographs.paths())
    small = [grey(photographs.rgb(name)) for name in names]
    for i, whole in enumerate(small):
        assert [names[j] for j, part in enumerate(small) if j != i and find(whole, part)] == [], names[i]
    for name in ("rocket", "china", "moon", "grass", "coffee"):
        image = photographs.rgb(name)
        width, height = image.width // 2, image.height // 2
        quarters = [
            grey(image.crop((left, top, left + width, top + height)))
            for left in (0, width)
            for top in (0, height)
        ]
        found = [(i, j) for i in range(4) for j in range(4) if i != j and find(quarters[i], quarters[j])]
        assert found == [], name


def test_each_gate_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    image = photographs.rgb("astronaut")
    brighter = Image.fromarray((np.asarray(image) // 3).astype(np.uint8))
    assert find(grey(image), grey(brighter)) is None
    monkeypatch.setattr(crops, "EXPLAINED", -10.0)
    place = find(grey(image), grey(brighter))
    assert place is not None and place.detail > 0.9
    monkeypatch.undo()
    blurred = image.resize((8, 8), Image.Resampling.BOX).resize(image.size, Image.Resampling.BICUBIC)
    assert find(grey(image), grey(blurred)) is None
    monkeypatch.setattr(crops, "DETAIL", -1.0)
    monkeypatch.setattr(crops, "EXPLAINED", 0.5)
    assert find(grey(image), grey(blurred)) is not None


def test_what_shows_nothing_or_too_little_is_found_nowhere() -> None:
    flat = grey(np.full((300, 200, 3), 90, np.uint8))
    assert find(flat, flat) is None
    tiny = grey(photographs.rgb("coffee").resize((30, 20)))
    assert find(tiny, tiny) is None
    thin = grey(np.zeros((1, 4000, 3), np.uint8))
    assert find(thin, thin) is None and find(grey(photographs.rgb("coffee")), thin) is None
