"""Opening a collection's folder: what is no collection is refused by name, in one line."""

from __future__ import annotations

import os
import re
import secrets
import sqlite3
from pathlib import Path

from omnivec.errors import CollectionDamaged, CollectionError, SchemaError
from omnivec.files import synced
from omnivec.store import schema
from omnivec.store.connections import Connections, connect, damaged, translated
from omnivec.store.replaced import check_log
from omnivec.validation.reasons import of_system

FILE = "catalogue.sqlite"

# What omnivec itself may have left in a collection's folder.
_OWN = re.compile(r"catalogue\.sqlite.*|\.?matrix-.*|writer\.lock|\.gitignore")

_MAGIC = b"SQLite format 3\0"
_SMALLEST = 512
"""Bytes of the smallest page, and so of the smallest database."""

# Shared memory, on which the write-ahead log rests, does not work across machines.
_NETWORK = re.compile(
    r"(fuse\.)?(nfs\d?|cifs|smb\w*|9p|ncpfs?|afs|coda|ceph|glusterfs|lustre|gpfs|beegfs\w*|orangefs|pvfs2|"
    r"davfs2?|sshfs|s3fs|s3ql|goofys|gcsfuse|rclone|mountpoint-s3|blobfuse2?|juicefs|curlftpfs|vboxsf|prl_fs)"
)


def file_system(path: Path, mountinfo: str | None = None) -> str:
    """Names the type of the file system that holds a path, as in /proc/self/mountinfo; "" where unknown.

    Args:
        path: a file or folder, which need not exist yet.
        mountinfo: the text of that file (proc(5)); read from the system when not given.
    """
    if mountinfo is None:
        try:
            mountinfo = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="surrogateescape")
        except OSError:
            return ""
    place = path.resolve()
    best, name = -1, ""
    for row in mountinfo.splitlines():
        left, _, right = row.partition(" - ")
        if len(left.split()) < 5 or not right:
            continue
        mount = Path(re.sub(r"\\([0-7]{3})", lambda m: chr(int(m[1], 8)), left.split()[4]))
        # Of two mounts on one folder the later one is seen.
        if place.is_relative_to(mount) and len(mount.parts) >= best:
            best, name = len(mount.parts), right.split()[0]
    return name


def _refuse_network(folder: Path) -> None:
    file_system_name = file_system(folder)
    if _NETWORK.fullmatch(file_system_name):
        raise CollectionError(
            f"{folder} lies on a network file system ({file_system_name}), where SQLite's write-ahead log is not safe; "
            "put the collection on a local disk"
        )


def _create(path: Path) -> None:
    """Makes an empty catalogue beside its place and moves it there, so that no reader ever sees half of one.

    Not by `files.written`, which has the file open until it has its name: closing it would then undo the locks of
    another thread that has opened the catalogue already (see `_check_file`).
    """
    _refuse_mixing(path.parent)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Made by a tool beside somebody's work: not theirs to keep in git.
        if path.parent.name.startswith("."):
            ignore = path.parent / ".gitignore"
            if not os.path.lexists(ignore):
                ignore.write_text("*\n", encoding="ascii")
        draft = path.with_name(f"{FILE}.{secrets.token_hex(8)}.new")
        draft.touch(exist_ok=False)
    except OSError as exc:
        raise CollectionError(f"no collection can be made in {path.parent}: {of_system(exc)}") from exc
    try:
        with translated(draft):
            connection = connect(draft, writing=True, lasting=True)
            try:
                connection.execute("PRAGMA page_size = 16384")
                connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
                connection.execute(f"PRAGMA application_id = {schema.APPLICATION_ID:d}")
                connection.execute("BEGIN IMMEDIATE")
                schema.migrate(connection, 0)
                connection.execute("COMMIT")
                connection.execute("PRAGMA journal_mode = WAL")
            finally:
                connection.close()
        _place(draft, path)
    finally:
        draft.unlink(missing_ok=True)


def _refuse_mixing(folder: Path) -> None:
    """Refuses to make a collection among other files: it takes a folder of its own."""
    try:
        names = sorted(file.name for file in folder.iterdir())
    except OSError:  # not there yet, or not to be read: said by whoever makes it
        return
    foreign = [name for name in names if not _OWN.fullmatch(name)]
    if foreign:
        more = f" and {len(foreign) - 3} more" if len(foreign) > 3 else ""
        raise CollectionError(
            f"{folder} holds other files ({', '.join(foreign[:3])}{more}): a collection takes a folder of its own, "
            f"such as {folder / '.omnivec'}"
        )


def _place(draft: Path, path: Path) -> None:
    """Moves the draft to its name, unless another process was first."""
    try:
        path.hardlink_to(draft)
    except FileExistsError:
        return
    except OSError:  # a file system without hard links
        if not path.exists():
            draft.replace(path)
    synced(path.parent)


def _check_file(path: Path) -> None:
    """Refuses a file that is too small to be a database; SQLite looks into all others.

    A larger file is not opened here: it may be open already, and a process that closes any descriptor of a file loses
    all the locks that it has on it (https://www.sqlite.org/howtocorrupt.html, section 2.2).
    """
    try:
        size = path.stat().st_size
        start = path.read_bytes() if size < _SMALLEST else _MAGIC
    except OSError as exc:
        raise CollectionError(f"{path} cannot be read: {of_system(exc)}") from exc
    if not start.startswith(_MAGIC):
        raise _foreign(path, "is not an SQLite file" if start else "is empty")
    if size < _SMALLEST:
        raise damaged(path, f"it is cut off after {size} bytes")


def _check_pages(path: Path, page_size: int) -> None:
    """Refuses a file whose last page is not whole, which SQLite reads as zeros, unless its log has that page."""
    log, size = path.with_name(f"{FILE}-wal"), path.stat().st_size
    if size % page_size and not (log.exists() and log.stat().st_size):
        raise damaged(path, f"it is cut off after {size} bytes")


def _foreign(path: Path, what: str) -> SchemaError:
    return SchemaError(f"{path} {what}, so {path.parent} is no collection; choose another folder")


def _bring_up_to_date(connections: Connections) -> None:
    """Checks the maker and the schema's version; an older schema is migrated, unless opened for reading."""
    path, newest = connections.path, schema.MIGRATIONS[-1].version
    try:
        with connections.snapshot() as connection:
            maker = connection.execute("PRAGMA application_id").fetchone()[0]
            version = connection.execute("PRAGMA user_version").fetchone()[0]
            _check_pages(path, connection.execute("PRAGMA page_size").fetchone()[0])
    except CollectionDamaged as exc:
        code = getattr(exc.__cause__, "sqlite_errorcode", 0) & 0xFF
        if code == sqlite3.SQLITE_NOTADB:
            raise _foreign(path, "is not an SQLite file") from exc
        # Nothing was read yet but how many pages there are, and the first.
        if code == sqlite3.SQLITE_CORRUPT:
            what = f"it is cut off after {path.stat().st_size:,} bytes, or its first page was changed"
            raise damaged(path, what) from exc
        raise
    if maker != schema.APPLICATION_ID:
        raise _foreign(path, f"is an SQLite file of another program (application id {maker})")
    if version == newest:
        return
    if version > newest:
        raise SchemaError(
            f"{path} has schema version {version}, this omnivec knows versions up to {newest}; update omnivec"
        )
    known = [one.version for one in schema.MIGRATIONS]
    if version + 1 not in known or version < 1:
        raise SchemaError(
            f"{path} has schema version {version}, this omnivec reads {newest} and has no migration from "
            f"{version}; index again into a new folder"
        )
    if connections.readonly and version >= schema.READABLE:
        return
    if connections.readonly:
        raise SchemaError(
            f"{path} has schema version {version}, this omnivec reads {newest}; "
            "open the collection once for writing, which migrates it"
        )
    with connections.transaction() as connection:
        schema.migrate(connection, connection.execute("PRAGMA user_version").fetchone()[0])


def writable(folder: Path) -> bool:
    """Whether this process may write to a collection's files."""
    return os.access(folder / FILE, os.W_OK) and os.access(folder, os.W_OK)


def open_connections(folder: Path, *, create: bool, readonly: bool) -> Connections:
    """Opens the catalogue in a folder, made first if it is not there and `create` is set.

    Raises:
        CollectionError: nothing there, a network disk, or a folder that cannot be written.
        SchemaError: another kind of file, or a schema this version does not know.
        CollectionDamaged: a file that is not whole.
    """
    path = folder / FILE
    if folder.exists() and not folder.is_dir():
        raise SchemaError(f"{folder} is a file, and a collection is a folder; choose another place")
    _refuse_network(folder)
    if not path.exists():
        if not create or readonly:
            inside = folder / ".omnivec"
            there = (
                f"there is one in {inside}" if (inside / FILE).exists() else "`omnivec index PATH` makes one"
            )
            raise CollectionError(f"no collection in {folder}; {there}")
        _create(path)
    _check_file(path)
    if not readonly and not writable(folder):
        raise CollectionError(f"{folder} is read-only; open it for reading, or allow writing to it")
    with translated(path):
        check_log(path)
        connections = Connections(path, readonly=readonly)
    try:
        _bring_up_to_date(connections)
    except BaseException:
        connections.close()
        raise
    return connections
