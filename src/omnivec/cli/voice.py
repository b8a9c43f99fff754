"""`omnivec voice`: whose voice a recording is, and who speaks where."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from omnivec.cli.common import count, json_option, print_json, print_table
from omnivec.cli.listing import FileListing, hidden_option, paths_argument
from omnivec.errors import UsageError
from omnivec.inputs.audio import MODALITY as SOUND
from omnivec.progress import say
from omnivec.validation.reasons import printable

if TYPE_CHECKING:
    from omnivec.tasks.voice import Voices
    from omnivec.tasks.voice_decision import Verdict

NAME = "voices.safetensors"
VARIABLE = "OMNIVEC_VOICES"

Command = TypeVar("Command", bound=Callable[..., Any])

_FILE = click.Path(path_type=Path, readable=False)


def profiles_option(command: Command) -> Command:
    """Adds --profiles to a command."""
    return click.option(
        "--profiles",
        "-p",
        type=_FILE,
        help=f"File of the enrolled voices.  [default: ${VARIABLE}, else {NAME} here or in the nearest parent]",
    )(command)


def reading_options(command: Command) -> Command:
    """Adds --model and --vad to a command."""
    command = click.option(
        "--vad/--no-vad",
        default=None,
        help="Leave silence out (voice activity detection).  [default: as the enrolled voices, else on]",
    )(command)
    return click.option(
        "--model", "-m", help="Model of voices.  [default: that of the enrolled voices, else dvector]"
    )(command)


def deciding_options(command: Command) -> Command:
    """Adds --false-accepts and --normalize to a command."""
    command = click.option(
        "--normalize/--no-normalize",
        default=None,
        help="Normalise scores by the cohort (AS-norm).  [default: if it has 200 speakers]",
    )(command)
    return click.option(
        "--false-accepts",
        "rate",
        type=click.FloatRange(0, 1, min_open=True, max_open=True),
        default=0.01,
        show_default=True,
        help="Share of other speakers that may be accepted, if there is a cohort.",
    )(command)


@click.group("voice", short_help="Enroll, verify, identify and cluster voices; find who speaks where.")
def command() -> None:
    """Whose voice is it? Enroll speakers, verify and identify recordings, group them, and find who speaks where.

    Enrolled voices are kept in one file. They are personal data: `omnivec voice remove` deletes a voice from it.
    """


@command.command()
@click.argument("name")
@click.argument("files", nargs=-1, required=True, type=_FILE, metavar="FILE...")
@reading_options
@profiles_option
@json_option
def enroll(
    name: str,
    files: tuple[Path, ...],
    model: str | None,
    vad: bool | None,
    profiles: Path | None,
    as_json: bool,
) -> int:
    """Enroll the speaker NAME with recordings, or add recordings. Ten seconds of speech or more are best."""
    result = _voices(profiles, model, vad).enroll(name, list(files))
    voice, added = result.voice, len(files) - len(result.failures)
    row = {"voice": voice.name, "recordings": len(voice.sources), "seconds": round(sum(voice.seconds), 2)}
    if as_json:
        print_json([{**row, "added": added, "failed": len(result.failures)}])
    else:
        click.echo(
            f"{printable(voice.name)}: {count(added, 'recording')} added; {count(len(voice.sources), 'recording')}, "
            f"{sum(voice.seconds):.1f} s of speech"
        )
    return _failed(result.failures)


@command.command()
@click.argument("name")
@click.argument("file", type=_FILE)
@deciding_options
@reading_options
@profiles_option
@json_option
def verify(
    name: str,
    file: Path,
    rate: float,
    normalize: bool | None,
    model: str | None,
    vad: bool | None,
    profiles: Path | None,
    as_json: bool,
) -> None:
    """Say whether the recording FILE is of the enrolled speaker NAME, and what the decision rests on."""
    verdict = _voices(profiles, model, vad).verify(name, file, rate=rate, normalize=normalize)
    _show([verdict], as_json)


@command.command()
@click.argument("file", type=_FILE)
@click.option(
    "--top", type=click.IntRange(min=1), default=5, show_default=True, help="Number of voices shown."
)
@deciding_options
@reading_options
@profiles_option
@json_option
def identify(
    file: Path,
    top: int,
    rate: float,
    normalize: bool | None,
    model: str | None,
    vad: bool | None,
    profiles: Path | None,
    as_json: bool,
) -> None:
    """Say which enrolled speaker the recording FILE is of, if any."""
    verdicts = _voices(profiles, model, vad).identify(file, rate=rate, normalize=normalize)
    _show(verdicts[:top], as_json)
    accepted = [verdict for verdict in verdicts if verdict.same]
    if not as_json and verdicts[0].threshold is not None:
        best = f"it is {accepted[0].name}" if accepted else "it is none of them"
        many = f"; {len(accepted)} voices are above their thresholds" if len(accepted) > 1 else ""
        say(f"{count(len(verdicts), 'voice')} compared: {best}{many}")


@command.command()
@click.argument("folder", type=_FILE)
@reading_options
@profiles_option
@hidden_option
@json_option
def cohort(
    folder: Path, model: str | None, vad: bool | None, profiles: Path | None, hidden: bool, as_json: bool
) -> int:
    """Read recordings of other speakers in FOLDER, from which `verify` and `identify` take their thresholds.

    Each speaker has a subfolder, or the beginning of file names up to the first "-" or "_". 25 speakers are needed for
    1 % false accepts, 100 or more to normalise scores. An earlier cohort is replaced.
    """
    listing = FileListing([folder], (SOUND.name,), hidden)
    files = sorted(listing)
    speakers = [_speaker(path, folder) for path in files]
    if listing.report() and not files:
        return 1
    if len(set(speakers)) < 2:
        raise UsageError(
            f"{folder} has {count(len(files), 'recording')} of {count(len(set(speakers)), 'speaker')}: a cohort needs "
            "a subfolder for each speaker, or file names such as anna-1.wav and ben-1.wav"
        )
    made, failures = _voices(profiles, model, vad).set_cohort(files, speakers)
    if as_json:
        print_json([{"recordings": len(made.seconds), "speakers": made.count, "failed": len(failures)}])
    else:
        click.echo(f"cohort: {count(len(made.seconds), 'recording')} of {count(made.count, 'speaker')}")
    return max(_failed(failures), 3 if listing.failures else 0)


@command.command()
@paths_argument
@click.option("--speakers", "-n", type=click.IntRange(min=1), help="Number of speakers, if it is known.")
@click.option(
    "--threshold", type=click.FloatRange(-1, 1), help="Cosine from which on recordings are of one speaker."
)
@reading_options
@hidden_option
@json_option
def cluster(
    paths: tuple[Path, ...],
    speakers: int | None,
    threshold: float | None,
    model: str | None,
    vad: bool | None,
    hidden: bool,
    as_json: bool,
) -> int:
    """Group the recordings in PATH, files and folders, by their speakers; each is of one speaker."""
    from omnivec.tasks.voice import cluster_voices

    if speakers is not None and threshold is not None:
        raise click.UsageError("give --speakers or --threshold, and not both")
    listing = FileListing(paths, (SOUND.name,), hidden)
    files = sorted(listing)
    listing.report()
    if not files:
        raise UsageError(f"no recordings in {', '.join(map(str, paths))}")
    found = cluster_voices(files, model, speakers=speakers, threshold=threshold, vad=vad)
    labels, seconds = found.labels.tolist(), found.seconds.round(2).tolist()
    rows = sorted(
        (label + 1, length, str(files[i]))
        for label, length, i in zip(labels, seconds, found.kept.tolist(), strict=True)
    )
    header = ("speaker", "seconds", "file")
    if as_json:
        print_json(dict(zip(header, row, strict=True)) for row in rows)
    else:
        print_table(header, rows)
    say(f"{count(len(rows), 'recording')} of {count(len(set(labels)), 'speaker')}; {found.basis}")
    return max(_failed(found.failures), 3 if listing.failures else 0)


@command.command()
@click.argument("file", type=_FILE)
@click.option("--speakers", "-n", type=click.IntRange(min=1), help="Number of speakers, if it is known.")
@click.option(
    "--threshold", type=click.FloatRange(-1, 1), help="Cosine from which on two clusters are of one speaker."
)
@click.option(
    "--names", is_flag=True, help="Call speakers who are recognised by the names of enrolled voices."
)
@click.option("--rttm", "as_rttm", is_flag=True, help="Print RTTM lines.")
@reading_options
@profiles_option
@json_option
def diarize(
    file: Path,
    speakers: int | None,
    threshold: float | None,
    names: bool,
    as_rttm: bool,
    model: str | None,
    vad: bool | None,
    profiles: Path | None,
    as_json: bool,
) -> None:
    """Find who speaks where in the recording FILE. Where two speak at once, one of them is found."""
    from omnivec.tasks import diarize as task

    if speakers is not None and threshold is not None:
        raise click.UsageError("give --speakers or --threshold, and not both")
    if as_rttm and as_json:
        raise click.UsageError("give --rttm or --json, and not both")
    if names:
        found = task.diarize(
            file, speakers=speakers, threshold=threshold, voices=_voices(profiles, model, vad)
        )
    else:
        found = task.diarize(file, model, speakers=speakers, threshold=threshold, vad=vad)
    if as_rttm:
        for line in task.rttm(found, "_".join(file.stem.split())):
            click.echo(line)
    else:
        spans, who = found.turns.spans.round(3).tolist(), map(found.label, found.turns.speakers.tolist())
        rows = [(start, end, label) for (start, end), label in zip(spans, who, strict=True)]
        header = ("start", "end", "speaker")
        if as_json:
            print_json(dict(zip(header, row, strict=True)) for row in rows)
        else:
            click.echo(f"{header[0]:>9}  {header[1]:>9}  {header[2]}")
            for start, end, label in rows:
                click.echo(f"{start:9.2f}  {end:9.2f}  {printable(label)}")
    say(
        f"{count(found.turns.count, 'speaker')} in {found.speech:,.1f} s of speech of {found.seconds:,.1f} s; "
        f"{found.basis}"
    )


@command.command("list")
@profiles_option
@json_option
def list_voices(profiles: Path | None, as_json: bool) -> None:
    """List the enrolled voices."""
    found = _existing(profiles)
    rows = [(voice.name, len(voice.sources), round(sum(voice.seconds), 1)) for voice in found.voices.values()]
    header = ("voice", "recordings", "seconds")
    if as_json:
        print_json(dict(zip(header, row, strict=True)) for row in rows)
    else:
        print_table(header, rows)
    speech = "whole recordings" if found.identity["speech"] is None else "silence left out"
    others = "no cohort" if found.cohort is None else f"a cohort of {count(found.cohort.count, 'speaker')}"
    say(f"{count(len(rows), 'voice')} by {found.model}, {speech}; {others}")


@command.command()
@click.argument("name")
@profiles_option
def remove(name: str, profiles: Path | None) -> None:
    """Delete the voice NAME and all that is stored of it."""
    voice = _voices(profiles, None, None).remove(name)
    click.echo(f"{printable(voice.name)} removed: {count(len(voice.sources), 'recording')}")


def _voices(profiles: Path | None, model: str | None, vad: bool | None) -> Voices:
    from omnivec.tasks.voice import Voices

    return Voices(_find(profiles), model, vad=vad)


def _existing(profiles: Path | None) -> Any:
    found = _voices(profiles, None, None).profiles
    if found is None:
        raise UsageError(
            f"{_find(profiles)} does not exist: enroll a voice with `omnivec voice enroll NAME FILE...`"
        )
    return found


def _find(option: Path | None) -> Path:
    """The file of voices: --profiles, $OMNIVEC_VOICES, or `voices.safetensors` here or in a parent; else here."""
    if option is not None:
        return option
    if os.environ.get(VARIABLE):
        return Path(os.environ[VARIABLE])
    here = Path.cwd()
    return next((folder / NAME for folder in (here, *here.parents) if (folder / NAME).is_file()), here / NAME)


def _speaker(path: Path, root: Path) -> str:
    """The name of the first subfolder, or the beginning of the file's name."""
    parts = path.relative_to(root).parts
    if len(parts) > 1:
        return parts[0]
    return path.stem.replace("_", "-").split("-")[0]


def _show(verdicts: Iterable[Verdict], as_json: bool) -> None:
    from omnivec.tasks.voice_decision import facts

    if as_json:
        print_json(map(facts, verdicts))
        return
    for verdict in verdicts:
        decision = {True: "same speaker", False: "not the same speaker", None: "no verdict"}[verdict.same]
        score = f"score {verdict.score:.3f}{' (normalised)' if verdict.normalized else ''}"
        limit = "" if verdict.threshold is None else f", threshold {verdict.threshold:.3f}"
        click.echo(f"{printable(verdict.name)}: {decision}; {score}{limit}")
        click.echo(
            f"  {_rates(verdict)}{verdict.tested:.1f} s of speech against {verdict.enrolled:.1f} s enrolled"
        )
        click.echo(f"  {verdict.basis}")


def _rates(verdict: Verdict) -> str:
    parts = []
    if verdict.false_accepts is not None:
        rejects = "not known" if verdict.false_rejects is None else f"{100 * verdict.false_rejects:.3g} %"
        parts.append(f"expected false accepts {100 * verdict.false_accepts:.3g} %, false rejects {rejects}")
    if verdict.probability is not None:
        parts.append(f"probability {verdict.probability:.3f} at even odds")
    return "".join(f"{part}; " for part in parts)


def _failed(failures: Mapping[int, str]) -> int:
    """Reports recordings that failed on stderr; returns the exit code."""
    for why in failures.values():
        say(why)
    return 3 if failures else 0
