"""Classify texts by labels alone, without training.

python examples/classify.py
"""

from __future__ import annotations

import omnivec

TEXTS = (
    "Simmer the sauce until it thickens, then add the basil.",
    "The central bank left interest rates unchanged.",
    "She scored twice in the second half.",
)
LABELS = ("cooking", "money", "sport")


def main() -> None:
    """Prints the most probable label of each text."""
    found = omnivec.classify(omnivec.load("all-MiniLM-L6-v2"), TEXTS, LABELS)
    for text, shares in zip(TEXTS, found.probabilities, strict=True):
        best = shares.argmax()
        print(f"{LABELS[best]} ({shares[best]:.0%}): {text}")


if __name__ == "__main__":
    main()
