"""Gives a pipe the pages of a buffer instead of a copy of its bytes, if the system can (vmsplice)."""

import ctypes
import errno
import os
from typing import Final

import numpy as np

# Below this a copy costs less than looking up pages.
WORTH_BYTES: Final = 64 * 1024
_NONBLOCK: Final = 2  # SPLICE_F_NONBLOCK
_UNUSABLE: Final = {errno.ENOSYS, errno.EPERM, errno.EINVAL, errno.EBADF, errno.EFAULT}


class _Piece(ctypes.Structure):
    _fields_ = (("base", ctypes.c_void_p), ("size", ctypes.c_size_t))


class PipeWriter:
    """``write`` is like ``os.write`` on a non-blocking pipe, but the reader gets the memory of ``data`` itself, which
    must not change until it has been read.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._vmsplice = getattr(ctypes.CDLL(None, use_errno=True), "vmsplice", None)
        if self._vmsplice is not None:
            self._vmsplice.restype = ctypes.c_ssize_t
            self._vmsplice.argtypes = (ctypes.c_int, ctypes.POINTER(_Piece), ctypes.c_size_t, ctypes.c_uint)

    def write(self, data: memoryview) -> int:
        """Returns the bytes taken. Raises BlockingIOError if the pipe is full, BrokenPipeError if nobody reads it."""
        if self._vmsplice is None or len(data) < WORTH_BYTES:
            return os.write(self._fd, data)
        piece = _Piece(np.frombuffer(data, np.uint8).ctypes.data, len(data))
        count = int(self._vmsplice(self._fd, ctypes.byref(piece), 1, _NONBLOCK))
        if count >= 0:
            return count
        number = ctypes.get_errno()
        if number in _UNUSABLE:  # the system has no vmsplice, or forbids it
            self._vmsplice = None
            return self.write(data)
        raise OSError(number, os.strerror(number))
