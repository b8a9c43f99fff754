"""Reads members of zip archives (npz, torch), with a limit on the memory of unpacked data.

Members state their unpacked sizes, and several may share the same packed bytes, so sizes are added up before anything
is unpacked. bzip2 and lzma are refused: they unpack a block at a time, however few bytes are read.
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
    """Unpacks a member to a writeable bytearray.

    Args:
        bounds: of the archive's file.
        archive: the open archive.
        member: of the archive.
        most: most bytes of the member; None for the limit of the file.

    Raises:
        WeightsError: the member is larger, or packed by a method other than deflate.
    """
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise bounds.error(
            f"{member.filename[:80]!r} is packed by method {member.compress_type}: only deflate is read"
        )
    if most is not None:
        bounds.number(f"a size of {member.filename[:80]!r}", member.file_size, 0, most)
    bounds.spend(f"{member.filename[:80]!r}", member.file_size)
    content = bytearray(member.file_size)
    end = 0
    with archive.open(member) as stream:
        # zipfile compares the checksum at the end of the member.
        while piece := stream.read(_PIECE):
            content[end : end + len(piece)] = piece
            end += len(piece)
    if end != member.file_size:
        raise bounds.error(f"{member.filename[:80]!r} states {member.file_size} bytes and has {end}: damaged")
    return content


def member_bytes(bounds: Bounds, archive: zipfile.ZipFile, member: zipfile.ZipInfo, raw: Bytes) -> Bytes:
    """The bytes of a member: a view of `raw`, the memory-mapped archive, if it is stored unpacked; else unpacked.

    Raises:
        WeightsError: the member is outside of the file, or takes more memory than the file may.
    """
    if member.compress_type != zipfile.ZIP_STORED:
        return np.frombuffer(unpacked(bounds, archive, member), np.uint8)
    # The data follow the local header, whose name and extra field may be longer than in the central directory.
    bounds.span("a zip member's header", member.header_offset, 30)
    signature, name_size, extra_size = _HEADER.unpack_from(raw.data, member.header_offset)
    if signature != b"PK\x03\x04":
        raise bounds.error(f"there is no zip member at byte {member.header_offset}")
    begin = member.header_offset + 30 + name_size + extra_size
    return raw[begin : bounds.span(f"{member.filename[:80]!r}", begin, member.file_size)]
