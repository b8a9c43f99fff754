"""Collections: where models and the store meet."""
