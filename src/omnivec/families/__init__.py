"""Families of models: one file each, named as the family. `models.registry` lists them without importing them."""
