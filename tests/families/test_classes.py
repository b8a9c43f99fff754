"""Names of classes are checked before they are used, and settings that a family does not have are refused."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import pytest

from omnivec.errors import ModelError, UnsupportedModel
from omnivec.families import (
    dvector,
    ecapa,
    mfcc,
    resnet34,
    silero_vad,
    speech_embedding,
    vggish,
    wav2vec,
    xvector,
    yamnet,
)
from omnivec.families._classes import class_names

FAMILIES = [dvector, ecapa, mfcc, resnet34, silero_vad, speech_embedding, vggish, wav2vec, xvector, yamnet]


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: str(family.__name__))
def test_settings_that_a_family_does_not_have_are_refused(family: ModuleType) -> None:
    with pytest.raises(UnsupportedModel, match=r"sampling_rate.* no such settings"):
        family.sound(None, {"sampling_rate": 8000})


@pytest.mark.parametrize("names", [1.5, "x", [1], True, {"0": 3}, {"0": ["x"]}])
def test_names_that_are_no_table_are_an_error(names: Any) -> None:
    with pytest.raises(ModelError, match=r"config\.json: id2label"):
        class_names({"id2label": names}, 2)


def test_names_of_classes() -> None:
    assert class_names({"id2label": {"1": "rain"}}, 2) == ("0", "rain")
    for none in ({}, {"id2label": None}, {"id2label": {}}):
        assert class_names(none, 2) == ()
