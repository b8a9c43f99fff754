"""`omnivec index` and `omnivec collection` over folders of texts and images."""

from __future__ import annotations

from pathlib import Path

import pytest

from workbench import CommandLine, picture, prose, write_files, write_pictures

NOTES = "notes.omni"


@pytest.fixture
def project(omni: CommandLine) -> CommandLine:
    """A folder with texts, images, an animation and what is neither."""
    write_files(omni.folder / "docs", {"a.txt": prose(1, 10), "b.md": prose(2, 10), "data.bin": "x"})
    write_pictures(omni.folder / "docs", 3)
    frames = [picture(i) for i in (7, 8)]
    frames[0].save(omni.folder / "docs" / "moving.gif", save_all=True, append_images=frames[1:])
    return omni


def test_a_model_for_each_modality(project: CommandLine, tiny: Path, vit: Path) -> None:
    models = ("-m", f"text={tiny}", "--model", f"image={vit}")
    dry = project("index", "docs", "-c", NOTES, *models, "--dry-run")
    assert dry.code == 0 and dry.out.startswith("would be: 6 new"), dry.err
    done = project("index", "docs", "-c", NOTES, *models)
    assert (done.code, done.out.splitlines()[0].split(";")[0]) == (
        0,
        "6 new, 0 changed, 0 unchanged, 0 removed, 0 failed",
    )
    note, *closed, left_out = done.errors
    assert [line.split(" (")[0] for line in closed] == [
        "omnivec: the space 'image'",
        "omnivec: the space 'text'",
    ]
    again = project("index", "docs", "-c", NOTES, *models)
    assert again.code == 0 and "the space" not in again.err  # said once, when the spaces were made
    assert "moving.gif: several frames or pages, of which the first is indexed" in note
    assert left_out == "omnivec: left out: neither text nor image nor audio by their names: 1 .bin"
    status = project("collection", "status", "-c", NOTES, "--check").out
    for name, model, vectors in (("text", tiny, 2), ("image", vit, 4)):
        assert f"space           {name}: {model}, dim 32, cosine; {vectors} vectors, openvino" in status
    [facts] = project("collection", "status", "-c", NOTES, "--json").rows
    assert facts["vectors"] == {"text": 2, "image": 4}
    assert {one["space"]: one["model"] for one in facts["spaces"]} == {"text": str(tiny), "image": str(vit)}
    again = project("index", "docs", "-c", NOTES, "--json")  # no model is named, none is loaded
    assert (again.code, again.rows[-1]["summary"]["unchanged"]) == (0, 6)
    removed = project("collection", "remove", "docs/p000.png", "-c", NOTES)
    assert (removed.code, removed.out) == (0, "1 document removed\n")


def test_notes_are_in_the_json_and_are_no_failures(project: CommandLine, clip: Path) -> None:
    done = project("index", "docs", "-c", NOTES, "-m", clip, "--json")
    *events, last = done.rows
    assert done.code == 0 and len(events) == 6
    [noted] = [event for event in events if "note" in event]
    assert (noted["document"], noted["status"]) == ("docs/moving.gif", "new")
    assert list(last["summary"]["notes"].values()) == [noted["note"]]
    [facts] = project("collection", "status", "-c", NOTES, "--json").rows
    assert facts["vectors"] == {"text+image": 6}


def test_images_without_their_default_model_are_each_named(
    project: CommandLine, tiny: Path, tmp_path: Path
) -> None:
    offline = CommandLine(
        project.folder, tmp_path / "empty cache", {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "hub")}
    )
    done = offline("index", "docs", "-c", NOTES, "-m", f"text={tiny}")
    assert done.code == 3 and done.out.startswith("2 new, 0 changed, 0 unchanged, 0 removed, 4 failed")
    failed = [line for line in done.errors if "--model image=NAME" in line]
    assert len(failed) == 4 and all("efficientnet-lite0" in line for line in failed)
    assert len(done.errors) == 5  # and what is neither


@pytest.mark.parametrize(
    ("models", "part"),
    [
        (["a", "b"], "given once"),
        (["text=a", "text=b"], "text=... is given twice"),
        (["a", "image=b"], "given once, or as"),
    ],
)
def test_models_that_cannot_be_meant(project: CommandLine, models: list[str], part: str) -> None:
    done = project("index", "docs", "-c", NOTES, *(f"--model={model}" for model in models))
    assert done.code == 2 and part in done.err
    assert not (project.folder / NOTES).exists()


def test_a_folder_with_an_equals_sign_is_a_model(project: CommandLine, tiny: Path) -> None:
    (project.folder / "lr=0.1").symlink_to(tiny, target_is_directory=True)
    write_files(project.folder, {"one.txt": prose(3)})
    assert project("index", "one.txt", "-c", NOTES, "-m", "lr=0.1").code == 0
