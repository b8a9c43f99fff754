"""Checks of input: arguments, JSON files and records in them; and descriptions of errors in one line."""
