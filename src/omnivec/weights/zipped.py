"""Members of zip archives (npz, torch), unpacked within what their file may be unpacked to.

A member states the size that it unpacks to, and several entries may point to the same bytes: what is unpacked is added
up before it is done. bzip2 and lzma are not read: they unpack a block whole, whatever was asked for.
"""

from __future__ import annotations

import struct
import zipfile

import numpy as np

from omnivec.weights.bounds import Bounds
from omnivec.weights.tensor import Bytes

_PIECE = 1 << 20  # bytes
_HEADER = struct.Struct("<4s22xHH")  # signature, length of the name, length of what follows it


def unpacked(
    bounds: Bounds, archive: zipfile.ZipFile, member: zipfile.ZipInfo, most: int | None = None
) -> bytearray:
    """The bytes of a member, writeable.

    Args:
        bounds: of the archive's file.
        archive: open.
        member: of it.
        most: bytes that it may have; None: as many as the file may be unpacked to.

    Raises:
        WeightsError: it states more, or is packed by another method than deflate.
    """
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise bounds.error(
            f"{member.filename[:80]!r} is packed by method {member.compress_type}: deflate is read"
        )
    if most is not None:
        bounds.number(f"a size of {member.filename[:80]!r}", member.file_size, 0, most)
    bounds.spend(f"{member.filename[:80]!r}", member.file_size)
    content = bytearray(member.file_size)
    end = 0
    with archive.open(member) as stream:
        # The checksum is compared where reading meets the end.
        while piece := stream.read(_PIECE):
            content[end : end + len(piece)] = piece
            end += len(piece)
    if end != member.file_size:
        raise bounds.error(f"{member.filename[:80]!r} states {member.file_size} bytes and has {end}: damaged")
    return content


def member_bytes(bounds: Bounds, archive: zipfile.ZipFile, member: zipfile.ZipInfo, raw: Bytes) -> Bytes:
    """The bytes of a member: in place in `raw`, a map of the archive, where it is stored as it is, else unpacked.

    Raises:
        WeightsError: it lies outside of the file, or unpacks to more than the file may.
    """
    if member.compress_type != zipfile.ZIP_STORED:
        return np.frombuffer(unpacked(bounds, archive, member), np.uint8)
    # The local header repeats the name and has padding of its own: only it says where the data begin.
    bounds.span("a zip member's header", member.header_offset, 30)
    signature, name_size, extra_size = _HEADER.unpack_from(raw.data, member.header_offset)
    if signature != b"PK\x03\x04":
        raise bounds.error(f"no zip member at byte {member.header_offset}")
    begin = member.header_offset + 30 + name_size + extra_size
    return raw[begin : bounds.span(f"{member.filename[:80]!r}", begin, member.file_size)]
