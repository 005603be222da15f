"""Damage in a PyTorch zip file that its mapped reader would not see.

Mapping takes each record's place from the header in front of it and never checks a sum, so that one wrong byte there
would shift a whole tensor. The directory at the end of the file knows the places too: comparing costs milliseconds.
"""

from __future__ import annotations

import struct
import zipfile
from itertools import pairwise
from pathlib import Path
from typing import BinaryIO

from perceptic.errors import WeightsError

_LOCAL_HEADER = struct.Struct("<4s22xHH")  # signature, ..., length of the name, length of the padding
# Behind the data may stand a descriptor: signature, checksum and two sizes of 4 or 8 bytes.
_MAX_DESCRIPTOR = 24


def check_zip(path: Path) -> None:
    """Compare every record's header with the directory, and the sum of the pickle, which holds names and shapes.

    The bytes of the tensors are not summed: that would read the whole file.

    Raises:
        WeightsError: the file is cut short or damaged.
    """
    try:
        with zipfile.ZipFile(path) as archive, path.open("rb") as stream:
            entries = sorted(archive.infolist(), key=lambda entry: entry.header_offset)
            for entry, following in pairwise(entries):
                gap = following.header_offset - _end_of_data(stream, entry)
                if not 0 <= gap <= _MAX_DESCRIPTOR:
                    raise WeightsError(
                        f"{path}: is damaged: the header of '{entry.filename}' is wrong; download it again"
                    )
            for entry in entries:
                # PyTorch can be told not to write sums; they are 0 then.
                if entry.filename.endswith("/data.pkl") and entry.CRC:
                    archive.read(entry)
    except Exception as error:
        what = "cut short" if "not a zip file" in str(error) else "damaged"
        raise WeightsError(f"{path}: is {what}: {error}; download it again") from error


def _end_of_data(stream: BinaryIO, entry: zipfile.ZipInfo) -> int:
    stream.seek(entry.header_offset)
    signature, name_length, padding_length = _LOCAL_HEADER.unpack(stream.read(_LOCAL_HEADER.size))
    if signature != b"PK\x03\x04" or stream.read(name_length) != entry.orig_filename.encode():
        raise zipfile.BadZipFile(f"the header of '{entry.filename}' is wrong")
    start: int = entry.header_offset + _LOCAL_HEADER.size + name_length + padding_length
    return start + entry.compress_size
