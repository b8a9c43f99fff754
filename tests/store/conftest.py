from __future__ import annotations

import pytest

from omnivec.store.sqlite import Catalogue
from store_samples import space


@pytest.fixture
def catalogue(tmp_path):
    with Catalogue.open(tmp_path / "notes.omni", create=True) as opened:
        opened.put_space(space())
        yield opened
