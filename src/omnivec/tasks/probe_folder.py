"""The folder of a probe: `probe.json` and `probe.safetensors`.

probe.json has the name and the identity of the model, the labels, the rule with its settings, the temperature and the
report; probe.safetensors the arrays that the rule has learned, and the confusion matrix of the estimate.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import numpy as np

from omnivec.errors import ModelError
from omnivec.tasks.probe_report import Report
from omnivec.validation import typed
from omnivec.validation.json_files import write_json
from omnivec.validation.typed import Filled, Positive
from omnivec.vectors.probe_estimate import Estimate
from omnivec.vectors.probe_rules import CentroidRule, LogisticRule, NeighbourRule, Rule, Scorer, restored
from omnivec.vectors.probe_selection import Trial
from omnivec.weights.folder_writer import model_folder, recover
from omnivec.weights.safetensors import read_safetensors, save

FORMAT, VERSION = "omnivec probe", 1
CONFIG, TENSORS = "probe.json", "probe.safetensors"

_RULES: dict[str, type[Rule]] = {one.kind: one for one in (CentroidRule, NeighbourRule, LogisticRule)}


@dataclass(frozen=True)
class _Config:
    """The content of probe.json."""

    format: str
    version: int
    model: str
    identity: Mapping[str, Any]
    labels: Annotated[tuple[str, ...], Filled()]
    rule: Mapping[str, Any]
    temperature: Positive
    report: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class StoredProbe:
    """A probe without its model.

    Attributes:
        model: name of the model.
        identity: identity of the model.
        labels: the labels, in the order of the columns of the scores.
        rule: what it decides by.
        scorer: what the rule has learned.
        temperature: by which scores are divided.
        report: what is known of it.
    """

    model: str
    identity: Mapping[str, Any]
    labels: tuple[str, ...]
    rule: Rule
    scorer: Scorer
    temperature: float
    report: Report


def write_probe(folder: Path, probe: StoredProbe) -> None:
    """Writes a probe; one that is in the folder is replaced as a whole.

    Raises:
        UsageError, WeightsError: the folder holds something else, or cannot be written.
    """
    report = dataclasses.asdict(probe.report)
    arrays = dict(probe.scorer.arrays())
    if probe.report.estimate is not None:
        arrays["confusion"] = report["estimate"].pop("confusion")
    config = {
        "format": FORMAT,
        "version": VERSION,
        "model": probe.model,
        "identity": dict(probe.identity),
        "labels": list(probe.labels),
        "rule": {"kind": probe.rule.kind, **dataclasses.asdict(probe.rule)},
        "temperature": probe.temperature,
        "report": {**report, "failures": {str(i): why for i, why in probe.report.failures.items()}},
    }
    with model_folder(folder) as new:
        write_json(new / CONFIG, config)
        save(new / TENSORS, arrays)


def read_probe(folder: Path) -> StoredProbe:
    """Reads a probe.

    Raises:
        ModelError: there is none in the folder, it is damaged, or of a later version.
        WeightsError: probe.safetensors is missing or damaged.
    """
    if folder.is_dir():
        recover(folder)
    if not (folder / CONFIG).is_file():
        what = "does not exist" if not folder.exists() else f"holds no {CONFIG}"
        raise ModelError(f"{folder} {what}: name a folder that `omnivec classify --save` or Probe.save wrote")
    config = typed.read_file(_Config, folder / CONFIG)
    if config.format != FORMAT:
        raise ModelError(
            f"{folder / CONFIG} is not of a probe: its format is {config.format!r}, not {FORMAT!r}"
        )
    if config.version != VERSION:
        raise ModelError(
            f"{folder} has version {config.version} of the format, and this omnivec reads version {VERSION}: use the "
            "omnivec that wrote it, or a later one"
        )
    # Copies: the file may be replaced while this process uses them.
    arrays = {name: np.array(tensor.data) for name, tensor in read_safetensors(folder / TENSORS).items()}
    try:
        settings = {name: value for name, value in config.rule.items() if name != "kind"}
        rule = _RULES[config.rule["kind"]](**settings)
        scorer = restored(rule, arrays, len(config.labels))
        report = _report(config.report, arrays)
        if not isinstance(config.identity["weights"], Mapping):
            raise TypeError("weights")
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ModelError(
            f"{folder} is damaged: {CONFIG} and the {len(arrays)} tensors of {TENSORS} do not fit together; train and "
            "save it again"
        ) from error
    return StoredProbe(config.model, config.identity, config.labels, rule, scorer, config.temperature, report)


def _report(stored: Mapping[str, Any], arrays: Mapping[str, Any]) -> Report:
    found = stored["estimate"]
    return Report(
        {str(label): int(count) for label, count in stored["counts"].items()},
        str(stored["rule"]),
        None if found is None else Estimate(**found, confusion=arrays["confusion"]),
        str(stored["basis"]),
        str(stored["calibration"]),
        tuple(Trial(**one) for one in stored["trials"]),
        tuple(map(str, stored["warnings"])),
        {int(i): str(why) for i, why in stored["failures"].items()},
    )
