"""Recipes, one file each: the file's name is the recipe's name."""
