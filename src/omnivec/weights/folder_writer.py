"""Saves a model to a folder: its files are written beside those that they replace, then moved one by one.

    folder/.omnivec-save-<16 hex digits>/new/...       the new files, while they are being written
    folder/.omnivec-save-<16 hex digits>/plan.json     written last: which files are to be moved and removed

If the process is killed before the plan exists, the old model remains; if it is killed afterwards, the next process
that loads or saves the model moves the remaining files. `omnivec_files.json` lists the files of a saved model with
their sha256: only these are replaced, or removed if the next model has no such file. All other files stay.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import secrets
import shutil
from collections.abc import Iterable, Iterator, Mapping
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import Any

from omnivec.errors import ModelError, UsageError, WeightsError
from omnivec.files import abandoned, check_writable, locked, synced, written
from omnivec.validation.arguments import expanded
from omnivec.validation.json_files import write_json
from omnivec.validation.reasons import of_system
from omnivec.weights.card import CARD

LISTED = "omnivec_files.json"
_STAGE = re.compile(r"\.omnivec-save-[0-9a-f]{16}")
_NEW, _PLAN = "new", "plan.json"

# Files that a loader reads beside the weights: one that is left from an older model would change the new one.
OBEYED = (
    "adapter_config.json",
    "added_tokens.json",
    "config.json",
    "config_sentence_transformers.json",
    "merges.txt",
    "modules.json",
    "open_clip_config.json",
    "preprocessor_config.json",
    "processor_config.json",
    "sentence_*_config.json",
    "special_tokens_map.json",
    "spiece.model",
    "sentencepiece.bpe.model",
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "vocab.json",
    "vocab.txt",
)
# Further files that belong to a model in a folder without a list, and may be replaced.
_USUAL = ("model.safetensors", "[0-9]_*/config.json", "[0-9]_*/model.safetensors")
# Such files in folders of omnivec's own formats, by the model_type in config.json.
_OF_TYPE = {
    "static": ("keys.json",),
    "fasttext": ("keys.json",),
    "doc2vec": ("keys.json", "words.json"),
    "joint": ("heads.safetensors", "left/*", "right/*"),
}
# Usual names of published weights; other names, such as data.bin or best.pt, may belong to something else.
_WEIGHTS = (
    "*model.safetensors",
    "model-*-of-*.safetensors",
    "*pytorch_model.bin",
    "pytorch_model-*-of-*.bin",
    "heads.safetensors",
    "tf_model.h5",
    "flax_model.msgpack",
)
# Keys in the front matter of a model card, by which it is told from other Markdown files with front matter.
_OF_CARD = re.compile(
    rb"^(library_name|pipeline_tag|base_model|model-index|model_name|license|language)\s*:", re.M
)
_ALWAYS = ("config.json", "model.safetensors", CARD)


def check_folder(folder: Path) -> Path:
    """Checks that a model can be saved to a folder, and returns its path with links followed.

    It is called before long work, so that an error does not lose its results.

    Raises:
        UsageError: the folder is the root of the file system.
        WeightsError: it is a file, holds something other than a model, or cannot be written.
    """
    place = Path(os.path.realpath(expanded(folder)))
    if place.parent == place:
        raise UsageError(f"{folder} is the root of the file system: name a folder for the model")
    try:
        if place.is_symlink():
            raise WeightsError(f"{folder} cannot be written: it is a link that leads to itself")
        if place.exists() and not place.is_dir():
            raise WeightsError(f"{folder} is a file: name a folder for the model")
        existing = next(each for each in (place, *place.parents) if each.exists())
        if not existing.is_dir():
            raise WeightsError(f"{folder} would lie in {existing}, which is a file: name another folder")
        if existing == place:
            _check_content(folder, place)
            _refuse(folder, _Old(place).foreign(name for name in _ALWAYS if (place / name).exists()))
    except OSError as error:
        raise WeightsError(f"{folder} cannot be written: {of_system(error)}") from error
    check_writable(existing, folder, WeightsError)
    return place


@contextlib.contextmanager
def model_folder(folder: Path) -> Iterator[Path]:
    """Yields an empty folder to write a model to; after the block, its files are moved to `folder`.

    Files of an older model in `folder` are replaced if the new one has files of the same names, and removed if not;
    files that omnivec did not write are not touched.

    Raises:
        UsageError: as `check_folder`.
        WeightsError: as `check_folder`; or the disk is full or fails.
    """
    place = check_folder(folder)
    made: list[Path] = []
    try:
        made = _make(place)
        stage = place / f".omnivec-save-{secrets.token_hex(8)}"
        (stage / _NEW).mkdir(parents=True)
        with locked(stage):  # so that no other process takes it for one that was left behind
            try:
                yield stage / _NEW
                _list(stage / _NEW)
                _flush(stage)
                with locked(place):
                    _recover(place)
                    _commit(folder, place, stage)
                made = []
            finally:
                if not (stage / _PLAN).exists():
                    shutil.rmtree(stage, ignore_errors=True)
    except OSError as error:
        raise WeightsError(f"{folder} cannot be written: {of_system(error)}") from error
    finally:
        for new in reversed(made):
            with contextlib.suppress(OSError):
                new.rmdir()


def recover(folder: Path) -> None:
    """Completes a save that a killed process began; to be called before a model's folder is read.

    Raises:
        ModelError: the folder is between two models and cannot be written, or is being written now.
    """
    try:
        if not _stages(folder):
            return
        with locked(folder):
            _recover(folder)
        names = _names(folder)
    except OSError as error:
        raise ModelError(
            f"{folder} is between two models, as a save was interrupted, and cannot be written to complete it "
            f"({of_system(error)}): load it once as a user who may write to it"
        ) from error
    if names and all(_STAGE.fullmatch(name) for name in names):
        raise ModelError(f"{folder} is being written now: load it when that is done")


class _Old:
    """The content of an existing folder, and which of it belongs to a model."""

    def __init__(self, place: Path) -> None:
        self.place = place
        listed = _json(place / LISTED)
        hashes = listed.get("files") if isinstance(listed, dict) else None
        self.listed: dict[str, str] = {
            str(name): str(digest)
            for name, digest in (hashes.items() if isinstance(hashes, dict) else ())
            if not PurePosixPath(name).is_absolute() and ".." not in PurePosixPath(name).parts
        }
        config = _json(place / "config.json")
        model_type = config.get("model_type") if isinstance(config, dict) else None
        self._usual: tuple[str, ...] = ()
        # There is no list, or another program has written a model since.
        if not self.listed or ("config.json" in self.listed and not self.unchanged("config.json")):
            self._usual = (
                *OBEYED,
                *_USUAL,
                *(_OF_TYPE.get(model_type, ()) if isinstance(model_type, str) else ()),
            )

    @property
    def is_model(self) -> bool:
        """Whether the folder holds a model: it has omnivec's list, or a config and weights."""
        if self.listed:
            return True
        config, modules = _json(self.place / "config.json"), _json(self.place / "modules.json")
        described = (
            isinstance(config, dict) and bool(config.keys() & {"model_type", "architectures", "architecture"})
        ) or (
            isinstance(modules, list) and any(isinstance(each, dict) and "type" in each for each in modules)
        )
        return described and any(
            next(self.place.glob(inside + pattern), None) is not None
            for pattern in _WEIGHTS
            for inside in ("", "*/")
        )

    def unchanged(self, name: str) -> bool:
        """Whether omnivec wrote this file and it was not changed since."""
        if name not in self.listed or _blocked(self.place, name) or (self.place / name).is_symlink():
            return False
        return _digest(self.place / name) == self.listed[name]

    def foreign(self, names: Iterable[str], new: Path | None = None) -> list[str]:
        """The existing files among `names` that do not belong to a model and may not be replaced.

        Files whose content equals that of the same file in `new` do not count.
        """
        return [name for name in names if not self._replaceable(name, new)]

    def _replaceable(self, name: str, new: Path | None) -> bool:
        path = self.place / name
        if _blocked(self.place, name) or path.is_symlink() or not path.is_file():
            return False
        if name == CARD:  # It may be the user's own text; a model card has front matter.
            return self.unchanged(name) or _is_card(path)
        if name in self.listed or any(fnmatchcase(name, pattern) for pattern in self._usual):
            return True
        return new is not None and _digest(path) == _digest(new / name)


def _is_card(path: Path) -> bool:
    """Whether a README.md is a model card, by its front matter."""
    before, head, *_ = [*path.read_bytes().split(b"---", 2), b""]
    return not before and _OF_CARD.search(head) is not None


def _check_content(folder: Path, place: Path) -> None:
    seen = [name for name in _names(place) if not name.startswith(".")]
    if seen and not _Old(place).is_model:
        shown = ", ".join(seen[:3]) + (f" and {len(seen) - 3:,} more" if len(seen) > 3 else "")
        raise WeightsError(f"{folder} is not empty and holds no model ({shown}): choose another folder")


def _refuse(folder: Path, names: list[str], why: str = "which the new model would replace") -> None:
    if names:
        shown = ", ".join(names[:3]) + (f" and {len(names) - 3:,} more" if len(names) > 3 else "")
        raise WeightsError(
            f"{folder} holds {shown}, {why}, and which does not belong to a model that omnivec wrote: move it away, or "
            "choose another folder"
        )


def _make(place: Path) -> list[Path]:
    """Makes a folder and its parents; returns those that did not exist before."""
    new = []
    for each in (place, *place.parents):
        if each.exists():
            break
        new.append(each)
    place.mkdir(parents=True, exist_ok=True)
    for each in new:
        synced(each.parent)
    return new[::-1]


def _files(folder: Path) -> list[str]:
    """The paths of the files below a folder, with "/", sorted; those that describe the others come last."""
    paths = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir()]
    return sorted(paths, key=lambda name: (name in (LISTED, "config.json", "modules.json"), name))


def _list(new: Path) -> None:
    """Writes the list of a model's files with their hashes."""
    (new / LISTED).unlink(missing_ok=True)
    write_json(new / LISTED, {"files": {name: _digest(new / name) for name in _files(new)}})


def _flush(stage: Path) -> None:
    for folder, _, names in os.walk(stage):
        for name in names:
            synced(Path(folder, name))
        synced(Path(folder))
    synced(stage.parent)


def _commit(folder: Path, place: Path, stage: Path) -> None:
    """Decides which files are moved and removed, writes the plan, and carries it out."""
    _check_content(folder, place)
    old, names = _Old(place), _files(stage / _NEW)
    existing = [name for name in names if os.path.lexists(place / name) or _blocked(place, name)]
    _refuse(folder, old.foreign((name for name in existing if name != LISTED), stage / _NEW))
    gone = {name: digest for name, digest in old.listed.items() if name not in names and old.unchanged(name)}
    left = [
        name
        for name in _names(place)
        if name not in names and name not in gone and any(fnmatchcase(name, one) for one in OBEYED)
    ]
    _refuse(folder, left, "which would be read as a part of the new model")
    with written(stage / _PLAN, error=WeightsError) as draft:
        write_json(draft, {"move": names, "remove": gone})
    try:
        _follow(place, stage)
    except BaseException:  # Also after Ctrl-C, the plan is completed, or left to the next process.
        with contextlib.suppress(OSError):
            _follow(place, stage)
        raise


def _blocked(place: Path, name: str) -> bool:
    """Whether a parent folder of the new file `name` exists as a file or a link."""
    inside = [place / parent for parent in PurePosixPath(name).parents if str(parent) != "."]
    return any(part.is_symlink() or (part.exists() and not part.is_dir()) for part in inside)


def _follow(place: Path, stage: Path) -> None:
    """Carries out a plan, continuing an earlier attempt if there was one."""
    plan = json.loads((stage / _PLAN).read_text(encoding="utf-8"))
    removed: Mapping[str, str] = plan["remove"]
    for name, digest in removed.items():
        if (place / name).is_file() and _digest(place / name) == digest:
            (place / name).unlink()
            _remove_empty(place, PurePosixPath(name))
    for name in plan["move"]:
        if (stage / _NEW / name).exists():
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            (stage / _NEW / name).replace(place / name)
    for folder in {place, *((place / name).parent for name in plan["move"])}:
        synced(folder)
    (stage / _PLAN).unlink()
    shutil.rmtree(stage, ignore_errors=True)


def _remove_empty(place: Path, name: PurePosixPath) -> None:
    """Removes those parent folders of a removed file that are empty now."""
    for parent in name.parents:
        if str(parent) == ".":
            return
        try:
            (place / parent).rmdir()
        except OSError:
            return


def _recover(place: Path) -> None:
    """Completes the saves of processes that no longer run if they have a plan, and removes those without one."""
    for stage in _stages(place):
        if not abandoned(stage):
            continue
        if (stage / _PLAN).exists():
            _follow(place, stage)
        else:
            shutil.rmtree(stage, ignore_errors=True)


def _names(place: Path) -> list[str]:
    with os.scandir(place) as entries:
        return sorted(entry.name for entry in entries)


def _stages(place: Path) -> list[Path]:
    return [place / name for name in _names(place) if _STAGE.fullmatch(name)]


def _digest(path: Path) -> str:
    """The sha256 of a file; "" if it cannot be read."""
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError:
        return ""


def _json(path: Path) -> Any:
    """The content of a JSON file; None if it cannot be read."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
