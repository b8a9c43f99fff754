"""`omnivec transcribe`: writes down the speech in audio files."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import click

from omnivec.cli.common import count, json_option, print_json
from omnivec.cli.listing import FileListing, hidden_option, paths_argument
from omnivec.errors import ItemErrors
from omnivec.inputs.audio import MODALITY as AUDIO
from omnivec.progress import say
from omnivec.types import Transcript
from omnivec.validation.reasons import printable

DEFAULT_MODEL = "whisper-base"

_FILES = 32
"""Files that are transcribed before their transcripts are printed."""


@click.command("transcribe", short_help="Write down the speech in audio files, with times.")
@paths_argument
@click.option(
    "--model",
    "-m",
    default=DEFAULT_MODEL,
    help=f"Model that can write down speech.  [default: {DEFAULT_MODEL}]",
)
@click.option(
    "--language",
    metavar="CODE",
    help="Language of all files, such as en; without it, the language of each window of 30 s is recognised.",
)
@hidden_option
@json_option
def command(paths: tuple[Path, ...], model: str, language: str | None, hidden: bool, as_json: bool) -> int:
    """Write down the speech in PATH, audio files and folders of them.

    Each file is printed as a block: its name, then a line for each segment, with its start and end in seconds.
    """
    from omnivec.models.loading import load

    embedder = load(model)
    listing = FileListing(paths, (AUDIO.name,), hidden)
    files, done, failed = iter(listing), 0, 0
    while batch := list(islice(files, _FILES)):
        try:
            kept, transcripts = list(batch), embedder.transcribe(batch, language=language)
        except ItemErrors as error:
            kept = [batch[i] for i in error.partial.kept]
            transcripts = error.partial.transcripts
            for i, why in error.failures.items():
                if not listing.leaves_out(batch[i]):
                    failed += 1
                    say(why if why.startswith(str(batch[i])) else f"{batch[i]}: {why}")
        for file, transcript in zip(kept, transcripts, strict=True):
            _show(file, transcript, as_json)
        done += len(kept)
    listing.report()
    failed += len(listing.failures)
    say(f"{count(done, 'file')} written down, {failed:,} failed")
    return 3 if failed else 0


def _show(file: Path, transcript: Transcript, as_json: bool) -> None:
    """Prints a transcript on stdout, and its notes on stderr."""
    for note in transcript.notes:
        say(f"{file}: {note}")
    if as_json:
        segments = [{"start": one.start, "end": one.end, "text": one.text} for one in transcript.segments]
        facts = {"file": str(file), "language": transcript.language, "text": transcript.text}
        print_json([facts | {"segments": segments, "notes": list(transcript.notes)}])
        return
    language = f"  ({transcript.language})" if transcript.language else ""
    click.echo(f"{printable(str(file))}{language}")
    for one in transcript.segments:
        click.echo(f"{one.start:9.2f} {one.end:9.2f}  {printable(one.text)}")
    click.echo()
