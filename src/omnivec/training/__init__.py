"""Training: recipes, found by the names of their files, and what they share: data, the training loops, schedules."""

from __future__ import annotations

from omnivec.training.recipe_registry import train

__all__ = ["train"]
