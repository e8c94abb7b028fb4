"""Blocks of an OpenCL device's memory: buffers, or memory that the host shares with the device."""

from __future__ import annotations

import ctypes
import mmap
import sys
from typing import Any, Final

import numpy as np
import pyopencl as cl

from plugrad.generated.memory import SMALLEST, Block

HUGE: Final = 1 << 22
"""Bytes from which on a block is worth huge pages: those of 4 KB cost more than what is computed in them."""


def buffer_block(context: Any, size: int) -> Block:
    """A block that is a buffer."""
    return Block(cl.Buffer(context, cl.mem_flags.READ_WRITE, size), size)


def shared_block(context: Any, queue: Any, size: int) -> Block:
    """A block of fine-grained shared virtual memory (OpenCL 3.0, 5.6.1): host and device need no map."""
    flags = cl.svm_mem_flags.READ_WRITE | cl.svm_mem_flags.SVM_FINE_GRAIN_BUFFER
    memory = cl.SVMAllocation(context, size, SMALLEST, flags, queue=queue)
    if size >= HUGE:
        _want_huge_pages(memory.svm_ptr, size)
    return Block(memory, size, np.asarray(_Bytes(memory, size)))


class _Bytes:
    """The bytes of shared memory, for NumPy."""

    def __init__(self, memory: Any, size: int) -> None:
        self.memory = memory
        self.__array_interface__ = {
            "data": (memory.svm_ptr, False),
            "shape": (size,),
            "typestr": "|u1",
            "version": 3,
        }


def _want_huge_pages(address: int, size: int) -> None:
    """Ask Linux for huge pages in the whole pages of memory that was not touched yet; elsewhere do nothing."""
    advice = getattr(mmap, "MADV_HUGEPAGE", None)
    if advice is None or not sys.platform.startswith("linux"):
        return
    first = -(-address // mmap.PAGESIZE) * mmap.PAGESIZE
    length = (address + size - first) // mmap.PAGESIZE * mmap.PAGESIZE
    # It is advice: where the system does not take it, pages are small.
    ctypes.CDLL(None).madvise(ctypes.c_void_p(first), ctypes.c_size_t(length), advice)
