"""Where documents, passages and vectors live. It sees arrays, strings and numbers, never a model."""
