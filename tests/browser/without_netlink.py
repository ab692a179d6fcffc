"""Starts a program that does not hear of changes of this machine's network: ``without_netlink.py PROGRAM ARGUMENT...``

Chromium breaks off every connection that it is about to make when an address comes or goes (ERR_NETWORK_CHANGED), as
it does with each container that starts or ends beside the tests, and a page stands there without its style. It has no
option for that; where it gets no netlink socket it takes the network for one that stays.
"""

import ctypes
import errno
import os
import platform
import socket
import struct
import sys

PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS, SECCOMP_MODE_FILTER = 22, 38, 2
SOCKET_CALL = {"x86_64": 41, "aarch64": 198}
LOAD, JUMP_IF_EQUAL, RETURN = 0x20, 0x15, 0x06  # of BPF
REFUSED, ALLOWED = 0x00050000 | errno.EAFNOSUPPORT, 0x7FFF0000
NUMBER_AT, FAMILY_AT = 0, 16  # in what the filter is given: the number of the call, its first argument


def program(socket_call: int) -> bytes:
    """The filter: instructions of code, jumps where true and where false, operand."""
    steps = (
        (LOAD, 0, 0, NUMBER_AT),
        (JUMP_IF_EQUAL, 0, 3, socket_call),
        (LOAD, 0, 0, FAMILY_AT),
        (JUMP_IF_EQUAL, 0, 1, socket.AF_NETLINK),
        (RETURN, 0, 0, REFUSED),
        (RETURN, 0, 0, ALLOWED),
    )
    return b"".join(struct.pack("HBBI", *step) for step in steps)


def refuse_netlink(socket_call: int) -> None:
    """To this process and all that it starts."""
    code = program(socket_call)
    held = ctypes.create_string_buffer(code, len(code))
    described = ctypes.create_string_buffer(struct.pack("HP", len(code) // 8, ctypes.addressof(held)))
    libc = ctypes.CDLL(None, use_errno=True)
    for option, *rest in (
        (PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0),
        (PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.addressof(described), 0, 0),
    ):
        if libc.prctl(option, *(ctypes.c_ulong(number) for number in rest)):
            raise OSError(ctypes.get_errno(), "no filter of system calls")


if __name__ == "__main__":
    if platform.machine() in SOCKET_CALL:
        refuse_netlink(SOCKET_CALL[platform.machine()])
    os.execv(sys.argv[1], sys.argv[1:])  # noqa: S606
