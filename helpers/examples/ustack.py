# SPDX-License-Identifier: Apache-2.0
"""libustack for Python, and for BPF programs that bcc compiles.

    session = ustack.Session()
    bpf = BPF(text='#include <ustack/capture.bpf.h>' + program, cflags=session.cflags())
    session.start()
    ... attach; bpf["counts"] gets ids that ustack_capture() returned ...
    ... detach ...
    session.stop()
    print(session.text(id))

bcc's rewriter leaves the capture code as it is, and the maps come to it as
numbers of open files (cflags), so that nothing is pinned. What the functions do
is told in ustack.h; they are called from one thread at a time.
"""
import ctypes
import os
import subprocess
from ctypes import POINTER, byref, c_bool, c_char_p, c_int, c_size_t, c_uint, c_uint32, c_uint64, c_void_p


class Error(Exception):
    """What libustack says of it, a sentence."""


class _Opts(ctypes.Structure):
    _fields_ = [("size", c_size_t), ("cells", c_uint32), ("demangle", c_bool), ("verbose", c_bool),
                ("only_pid", c_int), ("message", c_void_p), ("message_ctx", c_void_p)]


class _MapInfo(ctypes.Structure):
    _fields_ = [("name", c_char_p)] + [
        (name, c_uint32) for name in ("type", "key_size", "value_size", "max_entries", "flags")]


_lib = ctypes.CDLL("libustack.so.0")
_libc = ctypes.CDLL(None)
_libc.free.argtypes = [c_void_p]
for _name, _result, *_args in (
        ("ustack_new", c_int, POINTER(_Opts), POINTER(c_void_p), c_char_p, c_size_t),
        ("ustack_free", None, c_void_p),
        ("ustack_error", c_char_p, c_void_p),
        ("ustack_add_spec", c_int, c_void_p, c_char_p),
        ("ustack_create_maps", c_int, c_void_p),
        ("ustack_map_count", c_int),
        ("ustack_map_info_get", c_int, c_void_p, c_int, POINTER(_MapInfo)),
        ("ustack_map_fd", c_int, c_void_p, c_int),
        ("ustack_start", c_int, c_void_p),
        ("ustack_stop", None, c_void_p),
        ("ustack_text", c_char_p, c_void_p, c_uint64, c_uint, c_uint),
        ("ustack_json", c_void_p, c_void_p, c_uint64, c_uint),
        ("ustack_losses", c_void_p, c_void_p, c_bool)):
    getattr(_lib, _name).restype = _result
    getattr(_lib, _name).argtypes = _args


def _taken(pointer):
    """malloc'ed text."""
    text = ctypes.string_at(pointer).decode(errors="replace") if pointer else ""
    _libc.free(pointer)
    return text


class Session:
    def __init__(self, verbose=False, demangle=True, helper=None):
        """helper: as bpftrace's --helper, where the notes are; None: found by themselves."""
        self._u = c_void_p()
        why = ctypes.create_string_buffer(256)
        opts = _Opts(size=ctypes.sizeof(_Opts), verbose=verbose, demangle=demangle)
        if _lib.ustack_new(byref(opts), byref(self._u), why, len(why)) < 0:
            raise Error(why.value.decode())
        if helper:
            self._check(_lib.ustack_add_spec(self._u, os.fsencode(helper)))
        self._check(_lib.ustack_create_maps(self._u))

    def _check(self, err):
        if err < 0:
            raise Error(_lib.ustack_error(self._u).decode(errors="replace"))

    def cflags(self):
        """For bcc's BPF(cflags=...)."""
        flags = ["-DUSTACK_BCC", "-idirafter", subprocess.check_output(
            ["pkg-config", "--variable=includedir", "ustack"], text=True).strip()]
        info = _MapInfo()
        for which in range(_lib.ustack_map_count()):
            _lib.ustack_map_info_get(self._u, which, byref(info))
            flags.append("-D%s_fd=%d" % (info.name.decode(), _lib.ustack_map_fd(self._u, which)))
        return flags

    def start(self):
        """Call it before the programs are attached."""
        self._check(_lib.ustack_start(self._u))

    def stop(self):
        """Call it once they are detached, before the last text()."""
        _lib.ustack_stop(self._u)

    def text(self, id, limit=0, indent=4):
        """A line a frame, leaf first. Ids that read the same are to be added up."""
        return _lib.ustack_text(self._u, id, limit, indent).decode(errors="replace")

    def json(self, id, limit=0):
        return _taken(_lib.ustack_json(self._u, id, limit))

    def losses(self, verbose=False):
        """What was dropped or left unnamed, or ""."""
        return _taken(_lib.ustack_losses(self._u, verbose))

    def close(self):
        _lib.ustack_free(self._u)
        self._u = c_void_p()
