"""Fine-tune a text model on pairs and compare it before and after.

python examples/fine_tune.py

The pairs teach it the nicknames of a small shop, which no model can know.
"""

from __future__ import annotations

import omnivec

NICKNAMES = {
    "the blue whale": "an espresso machine with two groups",
    "grandma": "a hand grinder for coffee beans",
    "the noisy one": "an air compressor for the workshop",
    "snowflake": "a freezer for the ice cream counter",
    "the giraffe": "a ladder with twelve steps",
    "sunday": "a waffle iron for four waffles",
}
ASKED = ("where is {}?", "{} is broken", "please clean {}", "who has seen {}?")


def accuracy(model: omnivec.Embedder) -> float:
    """The share of new questions whose nearest description is the right one."""
    things = model.encode_document(list(NICKNAMES.values()))
    questions = model.encode_query([f"could you repair {name} today" for name in NICKNAMES])
    return float((omnivec.similarity(questions, things).argmax(axis=1) == range(len(NICKNAMES))).mean())


def main() -> None:
    """Trains for a few epochs on the CPU and prints both accuracies."""
    base = omnivec.load("all-MiniLM-L6-v2")
    pairs = [(asked.format(name), thing) for name, thing in NICKNAMES.items() for asked in ASKED]
    tuned = omnivec.train("contrastive", pairs, model=base, epochs=3, batch_size=6, lr=1e-4)
    print(f"right before: {accuracy(base):.0%}, after: {accuracy(tuned):.0%}")


if __name__ == "__main__":
    main()
