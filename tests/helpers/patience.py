"""How long a test waits for something that should happen: a guard against hanging, never a claim about speed."""

PATIENCE = 900.0
"""Seconds. A busy machine may be ten times as slow as an idle one, and may stop a process for seconds at any point."""
