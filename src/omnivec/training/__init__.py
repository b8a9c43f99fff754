"""Training: recipes found by their file's name, one loop, models whose weights learn."""
