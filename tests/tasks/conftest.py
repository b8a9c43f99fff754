"""The fixtures of these tests."""

from __future__ import annotations

from loaded_models import image_model  # noqa: F401
from workbench import other, tiny  # noqa: F401
