"""Inputs of models: a file or folder for each modality, and `files` for walking, reading and splitting files."""
