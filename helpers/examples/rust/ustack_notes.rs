// SPDX-License-Identifier: Apache-2.0
//! The C interface of libustack-notes, as `ustack_notes.h` declares it, by hand; and
//! the little that makes it safe: `Notes`, which owns what `ustack_notes_open` gave.
//!
//! The structs that the library is handed begin with their size. A newer library takes
//! the shorter struct of an older program, so this file need not follow the header.
use std::ffi::CStr;
use std::mem::size_of;
use std::os::raw::{c_char, c_int, c_void};
use std::ptr;

#[repr(C)]
struct Opts {
    size: usize,
    runtime: *const c_char,
    version: *const c_char,
    path: *const c_char,
    on: c_int,
    max_bytes: u64,
    rundown: Option<extern "C" fn(*mut c_void, *mut c_void)>,
    ctx: *mut c_void,
}

/// From `offset` on, the instructions are of this line.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Line {
    pub offset: u32,
    pub line: u32,
    pub column: u32,
    scope: u32,
    file: *const c_char,
}

impl Line {
    pub const fn new(offset: u32, line: u32, column: u32) -> Line {
        Line { offset, line, column, scope: 0, file: ptr::null() }
    }
}

#[repr(C)]
struct Code {
    size_of: usize,
    start: u64,
    size: u64,
    function: *const c_char,
    file: *const c_char,
    map: *const c_char,
    kind: *const c_char,
    line: u32,
    column: u32,
    flags: u32,
    tier: u8,
    unwind: u8,
    cfa_offset: u32,
    fp_offset: i32,
    eh_frame: *const c_void,
    eh_frame_size: u32,
    eh_frame_hdr_size: u32,
    lines: *const Line,
    n_lines: u32,
    scopes: *const c_void,
    n_scopes: u32,
    time: u64,
}

const UNWIND_FRAME_POINTER: u8 = 1;

extern "C" {
    fn ustack_notes_open(opts: *const Opts, out: *mut *mut c_void) -> c_int;
    fn ustack_notes_code(notes: *mut c_void, code: *const Code) -> c_int;
    fn ustack_notes_unload(notes: *mut c_void, start: u64, size: u64) -> c_int;
    fn ustack_notes_close(notes: *mut c_void);
}

/// The errno with which a note was not written.
pub type Errno = c_int;

fn done(rc: c_int) -> Result<(), Errno> {
    if rc < 0 { Err(-rc) } else { Ok(()) }
}

/// Notes of this process. Off, and free, unless USTACK_NOTES=1 is in the environment.
pub struct Notes(*mut c_void);

// The library's functions may be called by any thread.
unsafe impl Send for Notes {}
unsafe impl Sync for Notes {}

impl Notes {
    pub fn open(runtime: &CStr) -> Result<Notes, Errno> {
        let opts = Opts {
            size: size_of::<Opts>(),
            runtime: runtime.as_ptr(),
            version: ptr::null(),
            path: ptr::null(),
            on: 0,
            max_bytes: 0,
            rundown: None,
            ctx: ptr::null_mut(),
        };
        let mut notes = ptr::null_mut();
        // The library copies what it needs of opts.
        done(unsafe { ustack_notes_open(&opts, &mut notes) })?;
        Ok(Notes(notes))
    }

    /// Notes that go nowhere: all of the library's functions take NULL for that.
    pub fn off() -> Notes {
        Notes(ptr::null_mut())
    }

    /// To be called before `code` can be.
    pub fn code(&self, code: *const u8, size: usize, function: &CStr, file: &CStr, lines: &[Line])
        -> Result<(), Errno> {
        let note = Code {
            size_of: size_of::<Code>(),
            start: code as u64,
            size: size as u64,
            function: function.as_ptr(),
            file: file.as_ptr(),
            map: ptr::null(),
            kind: ptr::null(),
            line: lines.first().map_or(0, |l| l.line),
            column: 0,
            flags: 0,
            tier: 0,
            unwind: UNWIND_FRAME_POINTER,
            cfa_offset: 0,
            fp_offset: 0,
            eh_frame: ptr::null(),
            eh_frame_size: 0,
            eh_frame_hdr_size: 0,
            lines: lines.as_ptr(),
            n_lines: lines.len() as u32,
            scopes: ptr::null(),
            n_scopes: 0,
            time: 0,
        };
        // All pointers outlive the call, which keeps none of them.
        done(unsafe { ustack_notes_code(self.0, &note) })
    }

    /// To be called before the memory is given away or written to.
    pub fn unload(&self, code: *const u8, size: usize) -> Result<(), Errno> {
        done(unsafe { ustack_notes_unload(self.0, code as u64, size as u64) })
    }
}

impl Drop for Notes {
    fn drop(&mut self) {
        // Nobody else can use them any more: they are borrowed for every call.
        unsafe { ustack_notes_close(self.0) }
    }
}
