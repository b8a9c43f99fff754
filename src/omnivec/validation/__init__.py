"""Checks of what comes from outside: arguments, JSON files, and one-line descriptions of errors."""
