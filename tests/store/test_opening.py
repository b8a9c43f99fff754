"""What may be opened as a collection, and the one line said about everything else."""

from __future__ import annotations

import os
import random
import shutil
import sqlite3
import threading
from pathlib import Path

import pytest

from omnivec.errors import CollectionBusy, CollectionDamaged, CollectionError, SchemaError
from omnivec.store import connections, opening, schema
from omnivec.store.opening import file_system
from omnivec.store.schema import Migration
from omnivec.store.sqlite import Catalogue
from store_samples import catalogue_of_version, document, space

NEWEST = schema.MIGRATIONS[-1].version


def refused(kind, folder, match, **how):
    with pytest.raises(kind, match=match) as caught:
        Catalogue.open(folder, **({"create": False} | how))
    assert "\n" not in str(caught.value)
    assert type(caught.value) is kind


@pytest.fixture
def made(tmp_path):
    folder = tmp_path / "made"
    with Catalogue.open(folder, create=True) as catalogue:
        catalogue.put_space(space())
        catalogue.write([document(str(i), [f"text {i}"] * 20, i) for i in range(50)])
    return folder


def tampered(folder, sql):
    connection = sqlite3.connect(folder / "catalogue.sqlite", isolation_level=None)
    connection.execute(sql)
    connection.close()


def test_a_new_collection_has_the_promised_settings(made):
    assert [file.name for file in made.iterdir()] == ["catalogue.sqlite"]
    connection = sqlite3.connect(made / "catalogue.sqlite")
    values = {
        name: connection.execute(f"PRAGMA {name}").fetchone()[0]
        for name in ("application_id", "user_version", "page_size", "journal_mode")
    }
    connection.close()
    assert values == {
        "application_id": 0x4F4D4E49,
        "user_version": schema.MIGRATIONS[-1].version,
        "page_size": 16384,
        "journal_mode": "wal",
    }
    with Catalogue.open(made, create=False) as catalogue, catalogue._connections.transaction() as writer:
        assert writer.execute("PRAGMA synchronous").fetchone()[0] == 2  # FULL
        assert writer.execute("PRAGMA foreign_keys").fetchone()[0] == 1
        assert writer.execute("PRAGMA busy_timeout").fetchone()[0] == 30_000


def test_nothing_there(tmp_path):
    refused(CollectionError, tmp_path / "none", "no collection in .*none")
    refused(CollectionError, tmp_path, "no collection")
    refused(CollectionError, tmp_path / "none", "no collection", create=True, readonly=True)
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("content", [b"", b"hello", b"PK\3\4" * 1000])
def test_a_foreign_file(tmp_path, content):
    (tmp_path / "catalogue.sqlite").write_bytes(content)
    refused(SchemaError, tmp_path, "is empty" if not content else "is not an SQLite file", create=True)
    assert (tmp_path / "catalogue.sqlite").read_bytes() == content


def test_a_file_in_place_of_the_folder(tmp_path):
    (tmp_path / "notes").write_text("x")
    refused(SchemaError, tmp_path / "notes", "is a file", create=True)


def test_another_programs_database(tmp_path):
    connection = sqlite3.connect(tmp_path / "catalogue.sqlite")
    connection.execute("CREATE TABLE meta (key, value)")
    connection.close()
    refused(SchemaError, tmp_path, "another program .application id 0.")


def test_a_newer_schema_names_both_versions(made):
    tampered(made, "PRAGMA user_version = 77")
    refused(SchemaError, made, f"version 77.*up to {NEWEST}")


def test_an_older_schema_without_a_migration_names_both_versions(made, monkeypatch):
    monkeypatch.setattr(schema, "MIGRATIONS", (Migration(9, "SELECT 1;"),))
    refused(SchemaError, made, f"version {NEWEST}.*reads 9")


MIGRATIONS = (
    *schema.MIGRATIONS,
    Migration(NEWEST + 1, "ALTER TABLE documents ADD COLUMN colour TEXT;"),
    Migration(
        NEWEST + 2,
        "UPDATE documents SET colour = 'red';\nCREATE INDEX documents_colour ON documents (colour);",
    ),
)


def test_an_older_schema_is_migrated(made, monkeypatch):
    monkeypatch.setattr(schema, "MIGRATIONS", MIGRATIONS)
    monkeypatch.setattr(schema, "READABLE", NEWEST + 1)
    refused(SchemaError, made, f"version {NEWEST}.*open the collection once for writing", readonly=True)
    monkeypatch.setattr(schema, "READABLE", NEWEST)
    with Catalogue.open(made, create=False, readonly=True) as catalogue:
        assert catalogue.counts().documents == 50
    with Catalogue.open(made, create=False) as catalogue:
        assert catalogue._rows("SELECT DISTINCT colour FROM documents") == [("red",)]
        assert catalogue._rows("PRAGMA user_version") == [(NEWEST + 2,)]
        assert catalogue.check() == []


def test_a_migration_that_fails_changes_nothing(made, monkeypatch):
    failing = (*MIGRATIONS[:-1], Migration(NEWEST + 2, "CREATE TABLE documents (key);"))
    monkeypatch.setattr(schema, "MIGRATIONS", failing)
    refused(CollectionDamaged, made, "already exists")
    monkeypatch.undo()
    with Catalogue.open(made, create=False) as catalogue:
        assert catalogue._rows("PRAGMA user_version") == [(NEWEST,)]
        assert catalogue.counts().documents == 50


@pytest.mark.parametrize(
    ("version", "unverified"),
    [(1, ["texts", "times"]), (2, ["texts", "times"]), (3, ["texts", "times"]), (4, ["times"])],
)
def test_a_collection_of_an_older_version_is_read_as_it_is_and_migrated_by_its_first_writer(
    tmp_path, version, unverified
):
    folder = tmp_path / "old"
    texts = [
        "the quick fox",
        "a lazy dog and a fox",
        "北京 and 東京",
        "",
        "修改youer服务端的2024年",
        "ｶﾀｶﾅ ﬁle",
    ]
    catalogue_of_version(folder, version, texts)
    with Catalogue.open(folder, create=False, readonly=True) as catalogue:
        before = {query: [key for key, _ in catalogue.text_search(query, 9)] for query in ("fox", "東京")}
        assert before == {"fox": [1, 2], "東京": [3]}
        assert catalogue._rows("PRAGMA user_version") == [(version,)]
        assert catalogue.check() == []
        said = catalogue.unverified()
        assert [line.split()[2].strip(",") for line in said] == unverified and all(
            "next write" in line for line in said
        )
        assert [catalogue.document(str(i)).passages[0].text for i in range(6)] == texts
    with Catalogue.open(folder, create=False) as catalogue:
        assert catalogue._rows("PRAGMA user_version") == [(NEWEST,)]
        after = {query: [key for key, _ in catalogue.text_search(query, 9)] for query in before}
        assert after == before and catalogue.check() == catalogue.unverified() == []
        for query, key in {"youer": 5, "2024": 5, "服务端": 5, "カタカナ": 6, "file": 6}.items():
            assert [found for found, _ in catalogue.text_search(query, 9)] == [key]
        catalogue.write([document("4", ["", "one more fox"], 4)], remove=["3", "0", "5"])
        assert len(catalogue.text_search("fox", 9)) == 2 and catalogue.check() == []
        assert catalogue.text_search("youer", 9) == [] and catalogue.text_search("file", 9) == []
    tampered(folder, "UPDATE passages SET text = 'a lazy cat and a fox' WHERE key = 2")
    with Catalogue.open(folder, create=False) as catalogue:
        assert any("document '1' is not what was written" in line for line in catalogue.check())


def test_passages_without_text_do_not_change_how_words_rank(tmp_path):
    texts = [f"{'fox ' * (i % 3)}dog {'x' * i} and {i} more words" for i in range(12)]
    ranked = []
    for name, empty in (("alone", 0), ("beside", 200)):
        with Catalogue.open(tmp_path / name, create=True) as catalogue:
            catalogue.put_space(space())
            catalogue.write([document(str(i), [text], i) for i, text in enumerate(texts)])
            catalogue.write([document(f"image {i}", [""], i) for i in range(empty)])
            ranked.append({query: catalogue.text_search(query, 20) for query in ("fox", "dog words 3")})
            assert catalogue.check() == []
            assert catalogue.delete([f"image {i}" for i in range(0, empty, 2)]) == empty / 2
            assert catalogue.text_search("fox", 20) == ranked[-1]["fox"] and catalogue.check() == []
    assert ranked[0] == ranked[1]


def test_a_truncated_file(made):
    file = made / "catalogue.sqlite"
    whole = file.read_bytes()
    for size in (30, 99, 100, 5000, 16384, len(whole) // 2, len(whole) - 1):
        file.write_bytes(whole[:size])
        refused(CollectionDamaged, made, "restore a backup")


def content_of(folder):
    """All rows of all tables, those of the text indexes too; None where they cannot be read."""
    connection = sqlite3.connect(folder / "catalogue.sqlite")
    try:
        names = connection.execute(
            "SELECT name FROM sqlite_master WHERE type = 'table' AND sql NOT LIKE '%VIRTUAL%'"
        )
        rows = {name: connection.execute(f"SELECT * FROM {name}").fetchall() for (name,) in names.fetchall()}
        return rows | {"meta": [row for row in rows["meta"] if row[0] != "checkpointed"]}
    except sqlite3.Error:
        return None
    finally:
        connection.close()


def test_random_damage_is_noticed_and_never_a_foreign_error(made):
    file = made / "catalogue.sqlite"
    whole, content = file.read_bytes(), content_of(made)
    chance = random.Random(1)
    noticed = 0
    for _ in range(40):
        broken = bytearray(whole)
        start = chance.randrange(100, len(whole) - 2000)
        broken[start : start + 2000] = chance.randbytes(2000)
        file.write_bytes(broken)
        problems = []
        try:
            with Catalogue.open(made, create=False) as catalogue:
                problems = catalogue.check()
                assert all("\n" not in problem for problem in problems)
                if not problems:
                    assert content_of(made) == content, "a change that the check did not find"
                catalogue.write([document("0", ["new"])])
                catalogue.text_search("text", 10)
                catalogue.vectors("text")
        except CollectionError:
            noticed += not problems
        noticed += bool(problems)
    assert noticed >= 10  # else they fell into free space


def test_reading_a_folder_that_cannot_be_written(made, monkeypatch):
    if os.geteuid() == 0:  # root may always; what counts is which way is taken
        monkeypatch.setattr(os, "access", lambda path, mode: mode != os.W_OK)
    else:
        made.chmod(0o500)
    try:
        refused(CollectionError, made, "read-only")
        with Catalogue.open(made, create=False, readonly=True) as catalogue:
            assert catalogue.counts().documents == 50
            assert catalogue.check() == []
            with pytest.raises(CollectionError, match="read-only"):
                catalogue.write([document("new")])
        assert [file.name for file in made.iterdir()] == ["catalogue.sqlite"]
    finally:
        made.chmod(0o700)


def test_a_change_of_directory_does_not_matter(made, monkeypatch, tmp_path):
    monkeypatch.chdir(made.parent)
    with Catalogue.open(Path("made"), create=False) as catalogue:
        monkeypatch.chdir("/")
        catalogue.write([document("after")])
        seen = []
        thread = threading.Thread(target=lambda: seen.append(catalogue.counts().documents))
        thread.start()
        thread.join()
        assert seen == [51]


def test_a_full_disk_keeps_what_was_there(made):
    with Catalogue.open(made, create=False) as catalogue:
        with catalogue._connections.transaction() as writer:
            pages = writer.execute("PRAGMA page_count").fetchone()[0]
            writer.execute(f"PRAGMA max_page_count = {pages + 2}")
        with pytest.raises(
            CollectionError, match=r"no room to write to .* bytes free.*nothing of this write"
        ):
            catalogue.write([document("large", ["word " * 1000] * 500)])
        assert catalogue.counts().documents == 50
        assert catalogue.check() == []
        catalogue.write([document("small")])


def test_a_locked_file_is_busy(made, monkeypatch):
    monkeypatch.setattr(connections, "BUSY_SECONDS", 0.05)
    other = sqlite3.connect(made / "catalogue.sqlite", isolation_level=None)
    try:
        other.execute("BEGIN IMMEDIATE")
        with Catalogue.open(made, create=False) as catalogue:
            with pytest.raises(CollectionBusy, match="another process is writing"):
                catalogue.delete(["1"])
            assert catalogue.counts().documents == 50
            other.execute("ROLLBACK")
            assert catalogue.delete(["1"]) == 1
    finally:
        other.close()


def test_a_write_ahead_log_cut_anywhere_keeps_the_commits_before_the_cut(tmp_path):
    origin = tmp_path / "origin"
    sizes = []
    with Catalogue.open(origin, create=True) as catalogue:
        catalogue.put_space(space())
        log = origin / "catalogue.sqlite-wal"
        for i in range(12):
            catalogue.write([document(f"d{i}", [f"word{i} text"] * 30, i)])
            sizes.append(log.stat().st_size)
        copy = tmp_path / "copy"
        copy.mkdir()
        shutil.copy(origin / "catalogue.sqlite", copy)
        whole = log.read_bytes()
    assert sizes == sorted(set(sizes))
    chance = random.Random(2)
    database = (copy / "catalogue.sqlite").read_bytes()
    for cut in [
        0,
        17,
        *sizes,
        *(size - 1 for size in sizes),
        *(chance.randrange(len(whole)) for _ in range(25)),
    ]:
        for file in copy.iterdir():
            file.unlink()
        (copy / "catalogue.sqlite").write_bytes(database)
        (copy / "catalogue.sqlite-wal").write_bytes(whole[:cut])
        with Catalogue.open(copy, create=False) as catalogue:
            kept = sum(size <= cut for size in sizes)
            assert {entry.id for entry in catalogue.documents()} == {f"d{i}" for i in range(kept)}
            assert catalogue.check() == []
            if kept:
                assert len(catalogue.vectors("text")[0]) == 30 * kept
                assert len(catalogue.text_search(f"word{kept - 1}", 99)) == 30


MOUNTS = """\
22 28 0:21 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
30 22 0:30 / /mnt/share rw,relatime shared:9 master:2 - nfs4 server:/export rw
31 30 0:31 / /mnt/share/local rw - xfs /dev/sdb1 rw
32 22 0:32 / /mnt/with\\040space rw - fuse.sshfs me@host: rw
33 22 0:33 / /mnt/twice rw - tmpfs none rw
34 22 0:34 / /mnt/twice rw - cifs //server/share rw
35 22 0:35 / /mnt/sharex rw - btrfs /dev/sdc rw
a line that is none
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/home/me", "ext4"),
        ("/mnt/share/notes/deep", "nfs4"),
        ("/mnt/share", "nfs4"),
        ("/mnt/share/local/notes", "xfs"),
        ("/mnt/with space/notes", "fuse.sshfs"),
        ("/mnt/twice/x", "cifs"),
        ("/mnt/sharex/notes", "btrfs"),
        ("/mnt/sharey/notes", "ext4"),
    ],
)
def test_the_file_system_is_that_of_the_longest_mount(path, kind):
    assert file_system(Path(path), MOUNTS) == kind


def test_without_mounts_the_file_system_is_unknown():
    assert file_system(Path("/x"), "") == ""


@pytest.mark.parametrize(
    "kind", ["nfs", "nfs4", "cifs", "smb3", "9p", "fuse.sshfs", "ceph", "fuse.glusterfs", "lustre"]
)
def test_network_file_systems_are_refused_by_name(tmp_path, monkeypatch, kind):
    monkeypatch.setattr(opening, "file_system", lambda folder: kind)
    refused(CollectionError, tmp_path / "new", rf"network file system \({kind}\).*local disk", create=True)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("kind", ["", "ext4", "btrfs", "xfs", "tmpfs", "overlay", "apfs", "fuseblk", "zfs"])
def test_local_file_systems_are_not(tmp_path, monkeypatch, kind):
    monkeypatch.setattr(opening, "file_system", lambda folder: kind)
    Catalogue.open(tmp_path / "new", create=True).close()


def test_a_collection_is_not_mixed_into_a_folder_of_other_files(tmp_path):
    (tmp_path / "thesis.md").write_text("x")
    refused(CollectionError, tmp_path, r"holds other files \(thesis.md\).*such as .*\.omnivec", create=True)
    assert [file.name for file in tmp_path.iterdir()] == ["thesis.md"]
    Catalogue.open(tmp_path / ".omnivec", create=True).close()
    assert (tmp_path / ".omnivec" / ".gitignore").read_text() == "*\n"
    refused(CollectionError, tmp_path, r"there is one in .*\.omnivec")
    (tmp_path / ".omnivec" / "catalogue.sqlite").unlink()
    Catalogue.open(
        tmp_path / ".omnivec", create=True
    ).close()  # what omnivec itself left there is no obstacle


def test_what_was_removed_is_given_back(tmp_path):
    folder = tmp_path / "notes.omni"
    with Catalogue.open(folder, create=True) as catalogue:
        catalogue.put_space(space())
        for i in range(8):
            text = f"{i} " + " ".join(str(j * 7919 % 10_007) for j in range(2000))
            catalogue.write([document(f"{i}-{j}", [text] * 4) for j in range(10)])
            assert (folder / "catalogue.sqlite-wal").stat().st_size <= 12 * 2**20
        full = catalogue.counts().bytes
        names = [entry.id for entry in catalogue.documents()]
        catalogue.delete(names[:60])
        assert catalogue.check() == [] and catalogue.counts().free < 0.1 * full
        catalogue.delete(names)
        freed = catalogue.vacuum()
        assert freed > 0 and catalogue.counts().bytes < 500_000 and catalogue.counts().free == 0
        catalogue.write([document("new")])
        assert catalogue.check() == [] and catalogue.counts().documents == 1


@pytest.mark.parametrize("share", [1.0, 0.6], ids=["all", "most"])
def test_a_collection_that_was_emptied_keeps_nothing_of_its_words(tmp_path, share):
    def text(i):
        return " ".join(f"word{i * j % 10_007}" for j in range(1, 200))

    names = [f"d{i}" for i in range(1500)]
    with Catalogue.open(tmp_path / "notes.omni", create=True) as catalogue:
        catalogue.put_space(space())
        for start in range(0, len(names), 250):
            part = range(start, start + 250)
            catalogue.write([document(names[i], [text(i)]) for i in part])
    file = tmp_path / "notes.omni" / "catalogue.sqlite"
    full = file.stat().st_size
    gone = names[: int(share * len(names))]
    with Catalogue.open(tmp_path / "notes.omni", create=False) as catalogue:
        assert catalogue.delete(gone) == len(gone)
    before = file.stat().st_size
    assert before < (1 - 0.7 * share) * full
    with Catalogue.open(tmp_path / "notes.omni", create=False) as catalogue:
        catalogue.vacuum()
        assert catalogue.check() == []
    assert before < 1.4 * file.stat().st_size + 2**20  # some pages that are free


def test_a_collection_of_an_older_version_can_be_made_smaller_too(tmp_path):
    catalogue_of_version(tmp_path / "old", 2, ["a text"] * 3000)
    with Catalogue.open(tmp_path / "old", create=False) as catalogue:
        catalogue.delete([str(i) for i in range(3000)])
        assert catalogue.counts().free > 0
        assert catalogue.vacuum() > 0 and catalogue.counts().free == 0 and catalogue.check() == []
