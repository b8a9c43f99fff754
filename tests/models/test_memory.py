"""Memory and company: sizes, ceilings that batches obey, flat use over shapes, threads and processes."""

from __future__ import annotations

import itertools
import json
import mmap
import pickle
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from transformers import ViTConfig, ViTModel

import checkpoints
import omnivec
from omnivec.errors import ItemError, ModelError, UsageError
from omnivec.models import memory
from omnivec.models.memory import Guard, MemoryLimits, Probe, fit, keep_below
from omnivec.models.network import Network
from omnivec.ops import process
from omnivec.testing import check_close, open_model
from omnivec.types import Prepared
from patience import PATIENCE

MB = 10**6

pytestmark = pytest.mark.skipif(not process.STATM.exists(), reason="only Linux says what is resident")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("memory")
    checkpoints.bert(place)
    return place


@pytest.mark.parametrize(
    ("said", "size"),
    [(5, 5), ("5", 5), ("2GB", 2 * 10**9), ("1.5 GiB", 3 * 2**29), ("500MiB", 500 * 2**20), ("7 mb", 7 * MB)],
)
def test_sizes(said: int | str, size: int) -> None:
    assert process.parse_size(said) == size


@pytest.mark.parametrize(
    "said",
    [
        *("", "much", "2 XB", "-1", "1e9", True, None),
        pytest.param("9" * 400, id="400 digits"),
        pytest.param(10**5000, id="5001 digits"),
    ],
)
def test_what_is_no_size_is_refused(said: object) -> None:
    with pytest.raises(UsageError, match="max_memory"):
        process.parse_size(said)  # type: ignore[arg-type]


def filled() -> mmap.mmap:
    """40 MB that leave at once when closed; what NumPy frees an allocator may keep."""
    block = mmap.mmap(-1, 40 * MB)
    block.write(b"\1" * (40 * MB))
    return block


def test_resident_memory_is_seen_and_file_pages_leave(tmp_path: Path) -> None:
    block = filled()
    with_block = process.resident()
    block.close()
    assert with_block - process.resident() > 30 * MB

    def work() -> None:
        held = filled()
        time.sleep(0.05)
        held.close()

    assert memory.peak_of(work) - process.resident() > 30 * MB

    np.full(40 * MB, 7, np.uint8).tofile(tmp_path / "pages")
    mapped = np.memmap(tmp_path / "pages", np.uint8, mode="c").view(np.ndarray)
    assert int(mapped.sum()) == 280 * MB
    before = process.resident()
    process.release([mapped[:10], np.ones(3)])
    assert before - process.resident() > 30 * MB
    mapped[0] = 9
    process.release([mapped])
    assert mapped[0] == 9  # What was changed is kept,
    assert int(mapped.sum()) == 280 * MB + 2  # and the rest is read again.


class Imagined:
    """A process whose memory is a formula of the largest batch that it has run."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, base: int, each: int, square: int = 0) -> None:
        self.base, self.each, self.square, self.held = base, each, square, 0
        self.runs: list[tuple[int, int]] = []
        monkeypatch.setattr(process, "resident", lambda: self.base + self.held)

    def run(self, rows: int, length: int) -> None:
        self.runs.append((rows, length))
        self.held = max(self.held, rows * (length * self.each + length * length * self.square))

    @property
    def peak(self) -> int:
        return self.base + self.held


def probe(imagined: Imagined, longest: int, streams: int = 2, least: int = 1, twin: int = 50 * MB) -> Probe:
    return Probe(imagined.run, longest, 1024, streams, least, twin)


def test_where_memory_is_plenty_batches_are_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    imagined = Imagined(monkeypatch, 100 * MB, 20_000)
    limits = fit(10_000 * MB, probe(imagined, 256))
    assert (limits.budget, limits.streams) == (1024, 2)
    assert limits.each == pytest.approx(20_000)


@pytest.mark.parametrize("square", [0, 12, 48])
@pytest.mark.parametrize("longest", [128, 512, 8192])
@pytest.mark.parametrize("ceiling", [160, 250, 400, 800, 1600, 6400])
def test_no_batch_that_is_run_or_allowed_is_above_the_ceiling(
    monkeypatch: pytest.MonkeyPatch, square: int, longest: int, ceiling: int
) -> None:
    each = 20_000
    imagined = Imagined(monkeypatch, 100 * MB, each, square)
    one = longest * each + longest**2 * square
    try:
        limits = fit(ceiling * MB, probe(imagined, longest))
    except ModelError as error:
        assert imagined.peak <= ceiling * MB
        # Refused only where it does not fit, but for what is left free and what the bend of a curve may hide.
        assert imagined.base + memory.SLACK + 1.4 * one > ceiling * MB, error
        return
    assert imagined.base + one <= ceiling * MB
    rows = max(1, limits.budget // longest)
    total = imagined.base + limits.streams * rows * one + (50 * MB if limits.streams > 1 else 0)
    assert max(total, imagined.peak) <= ceiling * MB
    assert limits.budget >= min(longest, 1024)


@pytest.mark.parametrize("each", [50, 400, 2000])
@pytest.mark.parametrize("ceiling", [200, 300, 500, 2000])
def test_images_of_one_size_obey_a_ceiling(monkeypatch: pytest.MonkeyPatch, each: int, ceiling: int) -> None:
    """Nothing smaller than an image can be run; what a first run packs is not taken for what an image takes."""
    imagined, packed, pixels = Imagined(monkeypatch, 100 * MB, each), 30 * MB, 224 * 224
    imagined.base += packed
    images = Probe(imagined.run, pixels, 8 * pixels, 2, 1, 60 * MB, cold=100 * MB, unit="pixels")
    imagined.run(1, pixels)
    try:
        limits = fit(ceiling * MB, images)
    except ModelError as error:
        assert f"max_memory={ceiling} MB" in str(error) and "50,176 pixels" in str(error)
        assert imagined.base + pixels * each + memory.SLACK > ceiling * MB
        return
    rows = limits.budget // pixels
    assert 1 <= rows <= 8 and (ceiling < 2000 or each == 2000 or rows == 8)
    total = imagined.base + limits.streams * rows * pixels * each + (60 * MB if limits.streams > 1 else 0)
    assert max(total, imagined.peak) <= ceiling * MB
    assert all(own[0] in (1, 2, 4, 8) for own in imagined.runs)
    monkeypatch.setattr(process, "resident", lambda: ceiling * MB - MB)
    if limits.streams == 1:
        Guard(limits, "pixels").check(pixels)  # What has run before has its memory.
    else:
        with pytest.raises(ItemError, match="batch of 50,176 pixels"):
            Guard(limits, "pixels").check(pixels)


def test_several_programs_share_what_is_left_below_a_ceiling(monkeypatch: pytest.MonkeyPatch) -> None:
    used = {"": 200 * MB}
    monkeypatch.setattr(process, "resident", lambda: sum(used.values()))

    class Part:
        def __init__(self, name: str, wants: int) -> None:
            self.name, self.wants, self.may = name, wants, 0

        def warm(self) -> None:
            used[self.name] = 10 * MB

        def fit(self, ceiling: int, others: int) -> None:
            self.may = ceiling - others - process.resident() - memory.SLACK
            used[self.name] += min(self.wants, self.may)

    for wants in itertools.product((0, 20 * MB, 900 * MB), repeat=3):
        parts = [Part(str(i), own) for i, own in enumerate(wants)]
        used |= {part.name: 0 for part in parts}
        keep_below(600 * MB, parts)
        assert all(part.may > 30 * MB for part in parts)
        # If each takes all that it may take later, the process is still below.
        assert 230 * MB + sum(part.may for part in parts) + memory.SLACK <= 600 * MB


@pytest.mark.slow
def test_a_real_process_of_images_stays_below_its_ceiling(tmp_path: Path) -> None:
    config = ViTConfig(
        hidden_size=256, num_hidden_layers=3, num_attention_heads=4, intermediate_size=1024, patch_size=8
    )
    checkpoints.discriminate(ViTModel(config, add_pooling_layer=False), 0).save_pretrained(tmp_path)
    said = {"image_processor_type": "ViTImageProcessor", "size": {"height": 224, "width": 224}}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(said))
    code = f"""
import re, threading, numpy as np, omnivec
from omnivec.models.network import Network
from omnivec.ops.process import resident
ceiling = 150
for _ in range(8):
    try: model = omnivec.load({str(tmp_path)!r}, max_memory=f"{{ceiling}}MB", precision="float32")
    except omnivec.ModelError as error: ceiling = int(re.search(r"needs about (\\d+) MB", str(error))[1]) + 10
    else: break
top, done = resident(), threading.Event()
def watch():
    global top
    while not done.wait(0.002): top = max(top, resident())
watcher = threading.Thread(target=watch); watcher.start()
rows, compute = [], Network.compute
def counted(self, batch, alone):
    rows.append(len(batch))
    return compute(self, batch, alone)
Network.compute = counted
pixels = np.random.default_rng(0).integers(0, 256, (24, 224, 224, 3)).astype(np.uint8)
found = model.run(list(pixels))
done.set(); watcher.join()
assert len(found) == 24, found.failures
assert max(rows) < 8 and max(rows) <= model.card["budget"] // 224**2, (rows, model.card)
assert top < ceiling * 10**6, (top, ceiling)
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=PATIENCE)


def test_a_ceiling_that_is_too_low_is_refused_with_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    imagined = Imagined(monkeypatch, 100 * MB, 100_000)
    with pytest.raises(ModelError, match=r"max_memory=200 MB .* 8,192 tokens needs about 967 MB") as caught:
        fit(200 * MB, probe(imagined, 8192))
    assert "int8" in str(caught.value) and "fewer threads" in str(caught.value)
    assert imagined.peak < 200 * MB
    with pytest.raises(ModelError, match="deterministic=False"):
        fit(300 * MB, probe(Imagined(monkeypatch, 100 * MB, 100_000), 1024, streams=4, least=4))


def test_one_batch_that_no_longer_fits_costs_only_itself(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process grows behind the model's back until a long text has no room, but a short one has."""
    model = open_model(folder)
    network: Any = model.encoder
    now = process.resident()
    network.guard = Guard(MemoryLimits(now + 100 * MB, each=2 * MB, budget=96, streams=1)).check
    monkeypatch.setattr(process, "resident", lambda: now)
    network.budget = 96
    found = model.run(["short", "word " * 90, "brief"])
    assert found.kept.tolist() == [0, 2]
    why = found.failures[1]
    assert "96 tokens" in why and "192 MB more" in why and "max_memory" in why
    assert "\n" not in why


def test_batches_obey_a_ceiling(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [f"word number {i} " * (1 + i % 20) for i in range(300)]
    free = open_model(folder)
    sizes: list[int] = []
    compute = Network.compute

    def counted(self: Network, rows: list[Prepared], alone: bool) -> np.ndarray:
        sizes.append(len(rows) * max(row.cost for row in rows))
        return compute(self, rows, alone)

    monkeypatch.setattr(Network, "compute", counted)
    whole = free.encode(texts)
    assert max(sizes) > 900
    sizes.clear()
    narrow = open_model(folder)
    network: Any = narrow.encoder
    network.budget = 200
    network.guard = Guard(MemoryLimits(process.resident() + 500 * MB, 20_000, 200, 1)).check
    check_close(narrow.encode(texts), whole, "under a ceiling")
    assert 96 < max(sizes) <= 200


def test_a_real_process_stays_below_its_ceiling(folder: Path) -> None:
    code = f"""
import threading, omnivec
from omnivec.ops.process import resident
top, done = resident(), threading.Event()
def watch():
    global top
    while not done.wait(0.002): top = max(top, resident())
watcher = threading.Thread(target=watch); watcher.start()
refused = ""
try: omnivec.load({str(folder)!r}, max_memory="100MB")
except omnivec.ModelError as error: refused = str(error)
assert "max_memory=100 MB is too low" in refused and "needs" in refused, refused
model = omnivec.load({str(folder)!r}, max_memory="400MB")
assert model.card["budget"] <= 1024 and "400 MB" in model.card["reasons"]["budget"]
model.encode([f"{{i}} " + "word " * 80 for i in range(400)])
done.set(); watcher.join()
assert top < 400e6, top
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=PATIENCE)


def test_varied_shapes_leave_memory_flat(folder: Path) -> None:
    code = f"""
import numpy as np, omnivec
from omnivec.ops.process import resident
model = omnivec.load({str(folder)!r}, precision="float32")
rng = np.random.default_rng(0)
def work():
    for call in range(400):
        rows, length = int(rng.integers(1, 33)), int(rng.integers(1, 90))
        model.encode([f"{{call}} {{row}} " + "word " * length for row in range(rows)])
work(); before = resident(); work()
grown = (resident() - before) / 1e6
assert grown < 30, grown
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=PATIENCE)


@pytest.mark.parametrize("engine", ["openvino", "torch"])
def test_eight_threads_at_once_get_the_vectors_that_one_gets(folder: Path, engine: str) -> None:
    model = open_model(folder, engine=engine)
    texts = [[f"thread {n} text {i} " * (1 + (i + n) % 9) for i in range(60)] for n in range(8)]
    alone = [model.encode(own) for own in texts]
    fresh = open_model(folder, engine=engine)  # What is compiled at first use is so by eight at once.
    together: dict[int, np.ndarray] = {}
    start = threading.Barrier(8)

    def work(n: int) -> None:
        start.wait()
        together[n] = np.concatenate([fresh.encode(texts[n]), [fresh.encode(texts[n][0])]])

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for n in range(8):
        check_close(together[n][:-1], alone[n], f"thread {n}")
        check_close(together[n][-1], alone[n][0], f"thread {n}, one text")


def test_a_model_is_not_pickled_and_says_what_to_do(folder: Path) -> None:
    model = omnivec.load(folder)
    with pytest.raises(ModelError, match=r"omnivec\.load\(.*\) in each process"):
        pickle.dumps(model)


def test_spawned_processes_load_the_model_themselves(folder: Path, tmp_path: Path) -> None:
    """As a user writes it: a module with a function that loads, and a pool of two processes."""
    (tmp_path / "pooled.py").write_text(
        f"""
import multiprocessing, numpy as np, omnivec

def work(texts):
    return omnivec.load({str(folder)!r}, precision="float32", threads=1).encode(texts)

if __name__ == "__main__":
    model = omnivec.load({str(folder)!r}, precision="float32", threads=1)
    texts = [["one", "two words"], ["three", "and a fourth text"]]
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        made = pool.map(work, texts)
        try: pool.map(model.encode, texts)
        except omnivec.ModelError as error: assert "in each process" in str(error)
        else: raise SystemExit("a model was sent to another process")
    assert np.abs(np.concatenate(made) - model.encode(sum(texts, []))).max() < 1e-5
"""
    )
    subprocess.run([sys.executable, str(tmp_path / "pooled.py")], check=True, timeout=PATIENCE, cwd=tmp_path)
