"""Training: recipes found by their file's name, one loop, models whose weights learn."""

from __future__ import annotations

from omnivec.training.recipe_registry import train

__all__ = ["train"]
