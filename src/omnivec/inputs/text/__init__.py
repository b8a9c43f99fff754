"""Text: tokenizers, prompts, limits."""
