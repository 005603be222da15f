"""Damage in a PyTorch zip file that its mapped reader would not see.

Mapping takes each record's place from the header in front of it and never checks a sum, so that one wrong byte there
would shift a whole tensor. The directory at the end of the file knows the places too: comparing costs milliseconds.
"""

from __future__ import annotations

import struct
import zipfile
from pathlib import Path
from typing import BinaryIO

from perceptic.errors import WeightsError

_LOCAL_HEADER = struct.Struct("<4s22xHH")  # signature, ..., length of the name, length of the padding
_HEADER_SIGNATURE = b"PK\x03\x04"
_DESCRIPTOR_SIGNATURE = b"PK\x07\x08"  # of what PyTorch writes behind the data: the sum and the sizes
_HAS_DESCRIPTOR = 1 << 3


def check_zip(path: Path) -> None:
    """Compare every record's header with the directory, and the sum of the pickle, which holds names and shapes.

    The bytes of the tensors are not summed: that would read the whole file.

    Raises:
        WeightsError: the file is cut short or damaged.
    """
    try:
        with zipfile.ZipFile(path) as archive, path.open("rb") as stream:
            entries = archive.infolist()
            for entry in entries:
                _check_place(stream, entry)
            for entry in entries:
                # PyTorch can be told not to write sums; they are 0 then.
                if entry.filename.endswith("/data.pkl") and entry.CRC:
                    archive.read(entry)
    except Exception as error:
        what = "cut short" if "not a zip file" in str(error) else "damaged"
        raise WeightsError(f"{path}: is {what}: {error}; download it again") from error


def _check_place(stream: BinaryIO, entry: zipfile.ZipInfo) -> None:
    """The header must lead to data that ends where its descriptor begins."""
    stream.seek(entry.header_offset)
    signature, name_length, padding_length = _LOCAL_HEADER.unpack(stream.read(_LOCAL_HEADER.size))
    is_right = signature == _HEADER_SIGNATURE and stream.read(name_length) == entry.orig_filename.encode()
    if is_right and entry.flag_bits & _HAS_DESCRIPTOR:
        stream.seek(padding_length + entry.compress_size, 1)
        is_right = stream.read(len(_DESCRIPTOR_SIGNATURE)) == _DESCRIPTOR_SIGNATURE
    if not is_right:
        raise zipfile.BadZipFile(f"the header of '{entry.filename}' is wrong")
