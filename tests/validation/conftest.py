"""Models that several of these tests hold."""

from loaded_models import image_model, table, text_model

__all__ = ["image_model", "table", "text_model"]
