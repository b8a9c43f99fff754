"""Walking folders, reading files, and splitting texts into passages."""
