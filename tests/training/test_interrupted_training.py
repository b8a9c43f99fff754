"""Ctrl-C in the middle of `omnivec train`: what was learned is saved, said in one line, and loads."""

from __future__ import annotations

import os
import re
import select
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from patience import PATIENCE

pytest.importorskip("numba")

import omnivec
import small_corpus

pty = pytest.importorskip("pty")

# A process that was started in the background ignores Ctrl-C, and so would its children.
RUN = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
RUN += "from omnivec.cli.main import main; main()"
EPOCHS = 1_000_000
LINE = re.compile(r"omnivec: stopped: (\d+) of 1000000 epochs and \d+% of the next are learned, and kept")


def read_until(terminal, found):
    """What a terminal shows, until something is found or its other side is closed."""
    text = ""
    while not re.search(found, text):
        assert select.select([terminal], [], [], PATIENCE)[0], f"nothing more in {PATIENCE} seconds: {text}"
        try:
            piece = os.read(terminal, 4096)
        except OSError:  # the process is gone
            break
        text += piece.decode("utf-8", "replace")
    return text


@pytest.mark.parametrize("recipe", ["word2vec", "glove"])
def test_what_was_learned_is_saved_said_and_loads(recipe, tmp_path):
    text, saved = tmp_path / "text.txt", tmp_path / "words"
    text.write_text("\n".join(" ".join(each) for each in small_corpus.sentences(800)), encoding="utf-8")
    told = ["--dim", "16", "--epochs", str(EPOCHS), "--threads", "2", "--output", str(saved)]
    terminal, its = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", RUN, "train", recipe, str(text), *told],
        stdout=subprocess.PIPE,
        stderr=its,
        env={**os.environ, "COLUMNS": "200"},
    )
    os.close(its)
    try:
        begun = read_until(terminal, r"epoch \d+ of 1000000: .* s left")
        assert "s left" in begun, (begun, process.poll())
        time.sleep(0.5)
        process.send_signal(signal.SIGINT)
        ended = read_until(terminal, LINE)
        output = process.communicate(timeout=PATIENCE)[0].decode()
    finally:
        process.kill()
        process.communicate()
        os.close(terminal)
    assert process.returncode == 130 and output == f"saved to {saved}\n"
    line = LINE.search(ended)
    assert line is not None and "Traceback" not in begun + ended
    assert int(line[1]) < EPOCHS
    model = omnivec.load(saved)
    assert isinstance(model, omnivec.KeyedEmbedder)
    assert np.isfinite(model.vectors).all() and model.vectors.shape[1] == 16
    assert len(model.keys) == 18 and np.abs(model.vectors).max() > 1 / 16  # beyond what it began with
    if recipe == "word2vec":
        within, between = small_corpus.together(model.vectors, model.keys)
        assert within > between + 0.2
