"""IDX files: one array each, the format of MNIST.

Big-endian: two zero bytes, a byte for the element type, a byte for the number of axes, an unsigned size of
four bytes per axis, then the elements with the last axis running fastest. Source: Y. LeCun, C. Cortes, C.
Burges, "The MNIST database of handwritten digits", http://yann.lecun.com/exdb/mnist/.
"""

from __future__ import annotations

import gzip
import math
import os
import zlib
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any, Final

import numpy as np

from plugrad.errors import DataError, DTypeError, ShapeError

__all__ = ["read_idx", "write_idx"]

Array = np.ndarray[Any, Any]

_TYPES: Final[dict[int, np.dtype[Any]]] = {
    0x08: np.dtype(np.uint8),
    0x09: np.dtype(np.int8),
    0x0B: np.dtype(np.int16),
    0x0C: np.dtype(np.int32),
    0x0D: np.dtype(np.float32),
    0x0E: np.dtype(np.float64),
}
_CODES: Final = {dtype: code for code, dtype in _TYPES.items()}
_NAMES: Final = ", ".join(d.name for d in _CODES)
_MAGIC: Final = " or ".join(f"{c:02x} ({d.name})" for c, d in _TYPES.items())
_CHUNK: Final = 1 << 20


def read_idx(path: str | os.PathLike[str]) -> Array:
    """The array in an IDX file, in native byte order.

    Args:
        path: the file, plain or compressed by gzip; its content says which.

    Raises:
        DataError: if the file is none, is cut short, or goes on after the last element.
        OSError: if it cannot be opened or read, such as FileNotFoundError.
    """
    path = Path(path)
    with ExitStack() as stack:
        file: IO[bytes] | gzip.GzipFile = stack.enter_context(path.open("rb"))
        packed = file.read(2) == b"\x1f\x8b"
        file.seek(0)
        if packed:
            file = stack.enter_context(gzip.GzipFile(fileobj=file))
        try:
            return _read(path, file)
        except (gzip.BadGzipFile, zlib.error) as error:
            raise DataError(f"{path}: the gzip data is corrupt ({error}); get the file again") from error
        except EOFError as error:
            raise DataError(f"{path}: the gzip data is cut short ({error}); get the file again") from error


def _read(path: Path, file: IO[bytes] | gzip.GzipFile) -> Array:
    magic = _read_up_to(file, 4)
    if magic[:2] != b"\0\0"[: len(magic)] or (len(magic) > 2 and magic[2] not in _TYPES):
        raise DataError(
            f"{path}: starts with the bytes {magic.hex(' ')}, an IDX file with 00 00 and {_MAGIC}"
        )
    if len(magic) < 4:
        raise DataError(
            f"{path}: is cut short: the magic number of an IDX file has 4 bytes, this has {len(magic)}"
        )
    dtype, ndim = _TYPES[magic[2]], magic[3]
    sizes = _read_up_to(file, 4 * ndim)
    if len(sizes) < 4 * ndim:
        raise DataError(
            f"{path}: is cut short: the header for {ndim} axes has {4 + 4 * ndim} bytes, "
            f"this has {4 + len(sizes)}"
        )
    shape = tuple(int(n) for n in np.frombuffer(sizes, ">u4"))
    expected = math.prod(shape) * dtype.itemsize
    data = _read_up_to(file, expected)
    if len(data) < expected:
        raise DataError(
            f"{path}: is cut short: {dtype.name} of shape {shape} has {expected} bytes after the header, "
            f"this has {len(data)}; get the file again"
        )
    trailing = 0
    while chunk := file.read(_CHUNK):
        trailing += len(chunk)
    if trailing:
        raise DataError(
            f"{path}: {dtype.name} of shape {shape} has {expected} bytes after the header, "
            f"this has {trailing} more"
        )
    try:
        array = np.frombuffer(data, dtype.newbyteorder(">")).reshape(shape)
    except ValueError as error:
        raise DataError(f"{path}: NumPy holds no array of shape {shape}: {error}") from error
    result: Array = array.astype(dtype, copy=False)
    return result


def _read_up_to(file: IO[bytes] | gzip.GzipFile, size: int) -> bytearray:
    """``size`` bytes, or fewer at the end.

    They are read in pieces, so that a broken header claims no more memory than the file has.
    """
    data = bytearray()
    while len(data) < size and (chunk := file.read(min(_CHUNK, size - len(data)))):
        data += chunk
    return data


def write_idx(path: str | os.PathLike[str], array: Any) -> None:
    """Write ``array`` as an IDX file, which appears whole or not at all.

    Args:
        path: the file; a name that ends in ``.gz`` is compressed. Equal arrays give equal bytes.
        array: uint8, int8, int16, int32, float32 or float64, of any shape.

    Raises:
        DTypeError: for another dtype.
        ShapeError: if an axis is longer than 2**32 - 1.
        OSError: if the file cannot be written.
    """
    path = Path(path)
    array = np.asarray(array)
    dtype = array.dtype.newbyteorder("=")
    if dtype not in _CODES:
        raise DTypeError(
            f"write_idx: got dtype {array.dtype}, an IDX file holds {_NAMES}; convert it with astype"
        )
    if any(n >= 2**32 for n in array.shape):
        raise ShapeError(f"write_idx: got shape {array.shape}, an IDX file takes axes of up to {2**32 - 1}")
    header = bytes([0, 0, _CODES[dtype], array.ndim]) + np.array(array.shape, ">u4").tobytes()
    data = np.ascontiguousarray(array, dtype.newbyteorder(">"))
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with ExitStack() as stack:
            file: IO[bytes] | gzip.GzipFile = stack.enter_context(temporary.open("xb"))
            if path.suffix == ".gz":
                file = stack.enter_context(gzip.GzipFile("", "wb", 9, file, mtime=0))
            file.write(header)
            file.write(data.tobytes())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
