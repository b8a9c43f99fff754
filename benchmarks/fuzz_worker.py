"""Reads what `fuzz.py` names, one line of JSON at a time, and answers with what became of it."""

from __future__ import annotations

import json
import os
import resource
import shutil
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOM = 3 << 30  # bytes of address space above what the worker has when it is ready
TEXTS = ["the cat sat", "Zürich dog 日本", ""]


def _table(path: Path) -> None:
    from omnivec.models.table import read_table_model

    model = read_table_model(path)
    model.lookup.vectors(TEXTS)
    for key in list(model.table.keys)[:3]:
        model.lookup.row(key)


def _gensim(path: Path) -> None:
    _table(path / "model")


def _gensim_pickle(path: Path) -> None:
    from omnivec.tables.pickles import read_pickle

    read_pickle(path)


def _npy(path: Path) -> None:
    _table(path / "v.npy")


def _weights(path: Path) -> None:
    from omnivec import weights

    weights.content_hashes(weights.read(path))


def _weights_npz(path: Path) -> None:
    _weights(named(path, "renamed.npz"))


def _safetensors(path: Path) -> None:
    _weights(named(path, "renamed.safetensors"))


def named(path: Path, name: str) -> Path:
    """The same file under a name by which its form is told."""
    return Path(shutil.copyfile(path, path.with_name(name)))


def _load(path: Path) -> None:
    import omnivec

    model = omnivec.load(
        path, offline=True, precision=None if (path / "keys.json").exists() else "float32", threads=1
    )
    for part in (model,) if not hasattr(model, "left") else (model.left, model.right):
        part.run(TEXTS)
        part.card  # noqa: B018 - it asks for everything that the folder says


def _image(path: Path) -> None:
    from omnivec.inputs.image.image import ImagePreparer

    preparer = ImagePreparer(_processing())
    [found] = preparer.prepare([preparer.decode(path)])
    if isinstance(found, Exception):
        raise found


def _processing() -> Any:
    from omnivec.inputs.image.published import from_transformers

    mean = [0.5, 0.5, 0.5]
    said = {
        "image_processor_type": "ViTImageProcessor",
        "size": {"height": 16, "width": 16},
        "do_resize": True,
    }
    return from_transformers(
        {**said, "image_mean": mean, "image_std": mean, "resample": 2, "do_normalize": True}
    )


def _text(path: Path) -> None:
    from omnivec.inputs.files.read import read

    read(named(path, "renamed.py"))


def _html(path: Path) -> None:
    from omnivec.inputs.files.read import read

    read(named(path, "renamed.html"))


def _ignore(path: Path) -> None:
    from omnivec.inputs.files.walk import walk

    list(walk(path))


def _catalogue(path: Path) -> None:
    import omnivec

    with omnivec.Collection(path) as notes:
        notes.documents()
        notes.search("cat", mode="text")
        notes.check()


READERS: dict[str, Callable[[Path], None]] = {
    name[1:]: value for name, value in list(globals().items()) if name[0] == "_" and callable(value)
}


def _peak() -> int:
    """The most bytes that were resident since `_reset`, and 0 where the system does not say."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return 0


def _reset() -> int:
    """Begins to watch the peak; returns what is resident now."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return 0
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def answer(reader: str, path: Path) -> dict[str, Any]:
    """What became of one file: "read", "refused" or "crashed", CPU seconds, bytes above those before, and why."""
    from omnivec.errors import OmnivecError

    before, begun = _reset(), time.process_time()
    outcome, why = "read", ""
    try:
        READERS[reader](path)
    except OmnivecError as error:
        why = str(error)
        outcome = "refused" if "\n" not in why and "a fault of omnivec" not in why else "crashed"
    except BaseException as error:
        outcome, why = "crashed", "".join(traceback.format_exception(error)[-3:])
    return {
        "outcome": outcome,
        "seconds": time.process_time() - begun,
        "bytes": max(_peak() - before, 0),
        "why": why[:2000],
    }


def main() -> None:
    """Lines of {"reader", "path"} from stdin, answers to what was stdout; the libraries' own output goes nowhere."""
    import warnings

    import omnivec.models.loading  # noqa: F401 - before the limit is set

    warnings.simplefilter("ignore")
    answers = os.fdopen(os.dup(1), "w")
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    for ready in sys.stdin:
        asked = json.loads(ready)
        if asked.get("warm"):
            if asked["reader"] == "load":
                # A model type that no family covers is looked up there: it is no fault of the file's size.
                from transformers.models.auto import modeling_auto  # noqa: F401
            resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
            answer(asked["reader"], Path(asked["path"]))
            virtual = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
            resource.setrlimit(resource.RLIMIT_AS, (virtual + ROOM, resource.RLIM_INFINITY))
        print(json.dumps(answer(asked["reader"], Path(asked["path"]))), file=answers, flush=True)


if __name__ == "__main__":
    main()
