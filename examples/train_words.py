"""Train word vectors on your own text and look at nearest neighbours.

python examples/train_words.py docs/*.md
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

import omnivec


def main(paths: list[str]) -> None:
    """Trains word2vec on the words of text files and prints the neighbours of the most frequent long words."""
    lines = [line for path in paths for line in Path(path).read_text(encoding="utf-8").lower().splitlines()]
    sentences = [words for line in lines if (words := re.findall(r"[a-z]+", line))]
    model = omnivec.train("word2vec", sentences, dim=50, epochs=20, min_count=5)
    print(f"{len(model)} words")
    for word in [word for word in model.keys if len(word) > 5][:5]:
        print(f"{word}: {', '.join(key for key, _ in model.most_similar(word, k=4))}")


if __name__ == "__main__":
    main(sys.argv[1:])
