"""Writes tokenizer_ids.json: what transformers 4.57 makes of the folders of tests/media/tokenizer_folders.py.

Run with transformers 4.57 (tokenizers 0.22), whose tokenizers need no torch:

    python -m venv /tmp/env457 && /tmp/env457/bin/pip install "transformers==4.57.*" sentencepiece protobuf
    /tmp/env457/bin/python tests/golden/make_tokenizer_ids.py
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "helpers"))


def main() -> None:
    import transformers

    from tokenizer_folders import CASES, TEXTS

    found = {}
    for name, files in CASES.items():
        with tempfile.TemporaryDirectory() as folder:
            for file, content in files.items():
                (Path(folder) / file).write_text(json.dumps(content), encoding="utf-8")
            tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
        rows = tokenizer(list(TEXTS))["input_ids"]
        plain = tokenizer(list(TEXTS), add_special_tokens=False)["input_ids"]
        found[name] = {"class": type(tokenizer).__name__, "ids": rows, "plain": plain}
    version = f"transformers {transformers.__version__}"
    (HERE / "tokenizer_ids.json").write_text(
        json.dumps({"made by": version, "cases": found}, indent=None, separators=(",", ":")) + "\n",
        encoding="ascii",
    )


if __name__ == "__main__":
    main()
