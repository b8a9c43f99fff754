"""Collections, which combine models with the store."""
