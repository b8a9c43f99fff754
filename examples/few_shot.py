"""Learn labels from a few examples, and ask which text to label next.

python examples/few_shot.py
"""

from __future__ import annotations

import omnivec

EXAMPLES = {
    "cooking": (
        "Simmer the sauce until it thickens, then add the basil.",
        "Fold the egg whites into the batter.",
        "Roast the peppers until their skins are black.",
    ),
    "money": (
        "The central bank left interest rates unchanged.",
        "Her savings account pays two per cent.",
        "Shares of the company fell after the report.",
    ),
    "sport": (
        "She scored twice in the second half.",
        "The race was decided on the last lap.",
        "He saved the penalty and won the cup.",
    ),
}
NEW = (
    "Whisk the butter with the sugar.",
    "The club sold its best player to pay its debts.",
    "The goalkeeper was injured before the final.",
)


def main() -> None:
    """Trains a probe, labels texts, and says which of them would teach it most."""
    texts = [text for group in EXAMPLES.values() for text in group]
    labels = [label for label, group in EXAMPLES.items() for _ in group]
    probe = omnivec.Probe.train(omnivec.load("all-MiniLM-L6-v2"), texts, labels)
    print(probe.report)
    for text, label in zip(NEW, probe.predict(NEW), strict=True):
        print(f"{label}: {text}")
    [index] = probe.suggest(NEW, 1).indices
    print(f"label next: {NEW[index]}")


if __name__ == "__main__":
    main()
