"""The operations that families are written in, and their two engines."""
