"""What is done with vectors: pure functions on arrays."""
