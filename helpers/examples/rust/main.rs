// SPDX-License-Identifier: Apache-2.0
//! The JIT of ../tiny_jit.c in Rust: one function of x86-64 code, named by a note that
//! is written through libustack-notes.
//!
//!     USTACK_NOTES=1 rust_jit [CALLS]     (../README.md: how to build and trace it)
mod ustack_notes;

use std::ffi::CStr;
use std::os::raw::{c_int, c_void};
use ustack_notes::{Line, Notes};

/// push %rbp; mov %rsp,%rbp; 1: dec %rdi; jnz 1b; pop %rbp; ret
const MACHINE_CODE: [u8; 11] = [0x55, 0x48, 0x89, 0xe5, 0x48, 0xff, 0xcf, 0x75, 0xfb, 0x5d, 0xc3];
const LINES: [Line; 3] = [Line::new(0, 1, 1), Line::new(4, 2, 3), Line::new(9, 3, 3)];
const SIZE: usize = 4096;

const PROT_READ: c_int = 1;
const PROT_WRITE: c_int = 2;
const PROT_EXEC: c_int = 4;
const MAP_PRIVATE_ANONYMOUS: c_int = 0x22;

extern "C" {
    fn mmap(at: *mut c_void, size: usize, prot: c_int, flags: c_int, fd: c_int, off: i64) -> *mut c_void;
    fn mprotect(at: *mut c_void, size: usize, prot: c_int) -> c_int;
    fn munmap(at: *mut c_void, size: usize) -> c_int;
}

/// Memory with the machine code in it, which is told of for as long as it can run.
struct Function<'a> {
    code: *mut u8,
    notes: &'a Notes,
}

impl<'a> Function<'a> {
    fn compile(notes: &'a Notes) -> Function<'a> {
        let code = unsafe {
            mmap(std::ptr::null_mut(), SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE_ANONYMOUS, -1, 0)
        } as *mut u8;
        assert!(code as isize != -1, "no memory for code");
        // Fresh memory that is larger than the code.
        unsafe { code.copy_from_nonoverlapping(MACHINE_CODE.as_ptr(), MACHINE_CODE.len()) };
        // First the note, then the code can be called.
        if let Err(e) = notes.code(code, MACHINE_CODE.len(), c(b"countdown\0"), c(b"/srv/tiny.rs\0"), &LINES) {
            eprintln!("rust_jit: a note was not written: errno {}", e);
        }
        assert!(unsafe { mprotect(code.cast(), SIZE, PROT_READ | PROT_EXEC) } == 0, "not executable");
        Function { code, notes }
    }

    fn call(&self, n: i64) {
        // The code is there, takes one number and clobbers only what the C ABI lets it.
        let f: extern "C" fn(i64) = unsafe { std::mem::transmute(self.code) };
        f(n);
    }
}

impl Drop for Function<'_> {
    fn drop(&mut self) {
        // First the note, then the memory is given away. A note that is lost is counted in the file.
        let _ = self.notes.unload(self.code, MACHINE_CODE.len());
        unsafe { munmap(self.code.cast(), SIZE) };
    }
}

fn c(s: &'static [u8]) -> &'static CStr {
    CStr::from_bytes_with_nul(s).expect("a text that ends with its only NUL")
}

fn main() {
    let calls = std::env::args().nth(1).and_then(|a| a.parse().ok()).unwrap_or(10_000);
    let notes = Notes::open(c(b"tiny-rust\0")).unwrap_or_else(|e| {
        eprintln!("rust_jit: no notes: errno {}", e);
        Notes::off()
    });
    let countdown = Function::compile(&notes);
    for _ in 0..calls {
        countdown.call(1_000_000);
    }
}
