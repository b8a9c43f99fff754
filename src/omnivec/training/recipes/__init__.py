"""Training recipes, one file each, which gives the recipe its name."""
