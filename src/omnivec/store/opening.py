"""Opening the catalogue in a collection's folder, after checking that it is one; creating it if asked to."""

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

# Names of files that omnivec itself may have left in a collection's folder.
_OWN = re.compile(r"catalogue\.sqlite.*|\.?matrix-.*|writer\.lock|\.gitignore")

_MAGIC = b"SQLite format 3\0"
_SMALLEST = 512
"""Bytes of the smallest page, and so of the smallest database."""

# Network file systems: the write-ahead log needs shared memory, which does not work across machines.
_NETWORK = re.compile(
    r"(fuse\.)?(nfs\d?|cifs|smb\w*|9p|ncpfs?|afs|coda|ceph|glusterfs|lustre|gpfs|beegfs\w*|orangefs|pvfs2|"
    r"davfs2?|sshfs|s3fs|s3ql|goofys|gcsfuse|rclone|mountpoint-s3|blobfuse2?|juicefs|curlftpfs|vboxsf|prl_fs)"
)


def file_system(path: Path, mountinfo: str | None = None) -> str:
    """The type of the file system that holds a path, as in /proc/self/mountinfo; "" if unknown.

    Args:
        path: a file or folder, which need not exist yet.
        mountinfo: the text of that file (proc(5)); None reads it.
    """
    if mountinfo is None:
        try:
            mountinfo = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="surrogateescape")
        except OSError:
            return ""
    resolved = path.resolve()
    best, name = -1, ""
    for row in mountinfo.splitlines():
        left, _, right = row.partition(" - ")
        if len(left.split()) < 5 or not right:
            continue
        mount = Path(re.sub(r"\\([0-7]{3})", lambda m: chr(int(m[1], 8)), left.split()[4]))
        # Of two mounts on one folder, the later one hides the earlier.
        if resolved.is_relative_to(mount) and len(mount.parts) >= best:
            best, name = len(mount.parts), right.split()[0]
    return name


def _refuse_network(folder: Path) -> None:
    file_system_type = file_system(folder)
    if _NETWORK.fullmatch(file_system_type):
        raise CollectionError(
            f"{folder} lies on a network file system ({file_system_type}), where SQLite's write-ahead log is not safe; "
            "put the collection on a local disk"
        )


def _create(path: Path) -> None:
    """Makes an empty catalogue under another name and renames it, so that no reader sees an incomplete one.

    `files.written` cannot be used: it closes the file after renaming it, which would drop the locks of another thread
    that has already opened the catalogue (see `_check_file`).
    """
    _refuse_mixing(path.parent)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # A hidden folder lies beside the user's files, perhaps in a git repository, to which it does not belong.
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
    """Refuses to make a collection in a folder with other files."""
    try:
        names = sorted(file.name for file in folder.iterdir())
    except OSError:  # It does not exist yet; or it cannot be read, which is reported when it is written to.
        return
    foreign = [name for name in names if not _OWN.fullmatch(name)]
    if foreign:
        more = f" and {len(foreign) - 3} more" if len(foreign) > 3 else ""
        raise CollectionError(
            f"{folder} holds other files ({', '.join(foreign[:3])}{more}): a collection needs a folder of its own, "
            f"such as {folder / '.omnivec'}"
        )


def _place(draft: Path, path: Path) -> None:
    """Renames the draft to its final name, unless another process has already made the file."""
    try:
        path.hardlink_to(draft)
    except FileExistsError:
        return
    except OSError:  # a file system without hard links
        if not path.exists():
            draft.replace(path)
    synced(path.parent)


def _check_file(path: Path) -> None:
    """Refuses a file that is too small to be a database; SQLite checks all others.

    A larger file is not opened here: it may already be open, and a process that closes any descriptor of a file loses
    all of its locks on that file (https://www.sqlite.org/howtocorrupt.html, section 2.2).
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
    """Refuses a file whose last page is cut off, which SQLite would read as zeros, unless the log may have the page."""
    log, size = path.with_name(f"{FILE}-wal"), path.stat().st_size
    if size % page_size and not (log.exists() and log.stat().st_size):
        raise damaged(path, f"it is cut off after {size} bytes")


def _foreign(path: Path, what: str) -> SchemaError:
    return SchemaError(f"{path} {what}, so {path.parent} is not a collection; choose another folder")


def _bring_up_to_date(connections: Connections) -> None:
    """Checks the application id and the schema's version; migrates an older schema, unless opened for reading."""
    path, newest = connections.path, schema.MIGRATIONS[-1].version
    try:
        with connections.snapshot() as connection:
            application_id = connection.execute("PRAGMA application_id").fetchone()[0]
            version = connection.execute("PRAGMA user_version").fetchone()[0]
            _check_pages(path, connection.execute("PRAGMA page_size").fetchone()[0])
    except CollectionDamaged as exc:
        code = getattr(exc.__cause__, "sqlite_errorcode", 0) & 0xFF
        if code == sqlite3.SQLITE_NOTADB:
            raise _foreign(path, "is not an SQLite file") from exc
        # Only the first page and the number of pages have been read so far.
        if code == sqlite3.SQLITE_CORRUPT:
            what = f"it is cut off after {path.stat().st_size:,} bytes, or its first page was changed"
            raise damaged(path, what) from exc
        raise
    if application_id != schema.APPLICATION_ID:
        raise _foreign(path, f"is an SQLite file of another program (application id {application_id})")
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
    """Opens the catalogue in a folder; makes it first if it does not exist and `create` is set.

    Raises:
        CollectionError: there is no collection, or the folder is on a network disk or cannot be written.
        SchemaError: the file is not a catalogue, or has a schema that this version does not know.
        CollectionDamaged: the file is cut off or damaged.
    """
    path = folder / FILE
    if folder.exists() and not folder.is_dir():
        raise SchemaError(f"{folder} is a file, and a collection is a folder; choose another place")
    _refuse_network(folder)
    if not path.exists():
        if not create or readonly:
            inside = folder / ".omnivec"
            hint = (
                f"there is one in {inside}" if (inside / FILE).exists() else "`omnivec index PATH` makes one"
            )
            raise CollectionError(f"no collection in {folder}; {hint}")
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
