/* SPDX-License-Identifier: Apache-2.0 */
/* The child of the capture's tests, and its functions. */
#include "capture_scene.h"

/*
 * ut_site: the probed instruction, in a frame of its own.
 * ut_a(n), ut_b(n): call themselves n times, then the leaf. ut_cross calls the
 * leaf with its return address exactly at the start of a page. ut_root(f, n) calls f(n) as
 * a thread's first function: nothing random lies beyond.
 */
asm(R"(
	.pushsection .text
	.p2align 12
	.globl ut_leaf, ut_site, ut_leaf_end
ut_leaf:
	push %rbp
	mov %rsp, %rbp
ut_site:
	nop
	pop %rbp
	ret
ut_leaf_end:
.macro RECURSIVE name
	.globl \name, \name\()_in, \name\()_last, \name\()_end
\name:
	push %rbp
	mov %rsp, %rbp
	test %rdi, %rdi
	jz 1f
	dec %rdi
	call \name
\name\()_in:
	pop %rbp
	ret
1:	call ut_leaf
\name\()_last:
	pop %rbp
	ret
\name\()_end:
.endm
	RECURSIVE ut_a
	RECURSIVE ut_b
	.p2align 12
	.skip 4096 - 9
	.globl ut_cross, ut_cross_ret, ut_cross_end
ut_cross:
	push %rbp
	mov %rsp, %rbp
	call ut_leaf
ut_cross_ret:
	pop %rbp
	ret
ut_cross_end:
	.globl ut_root
ut_root:
	.cfi_startproc
	push %rbp
	.cfi_def_cfa_offset 16
	.cfi_offset %rbp, -16
	xor %ebp, %ebp
	mov %rdi, %rax
	mov %rsi, %rdi
	call *%rax
	pop %rbp
	.cfi_def_cfa_offset 8
	ret
	.cfi_endproc
	.popsection
)");

namespace capture_scene {

[[noreturn]] void child(int commands, int answers)
{
	Command c;

	while (read(commands, &c, sizeof(c)) == sizeof(c)) {
		switch (c.what) {
		case 'a': ut_root(ut_a, c.n); break;
		case 'b': ut_root(ut_b, c.n); break;
		case 'x': ut_root(reinterpret_cast<void (*)(long)>(ut_cross), 0); break;
		case 'f': ut_root(reinterpret_cast<void (*)(long)>(c.n), 0); break;
		case 't': (void)*reinterpret_cast<volatile char *>(c.n); break;
		case 'e': {
			char fds[32];
			snprintf(fds, sizeof(fds), "%d %d", commands, answers);
			setenv("USTACK_TEST_CHILD", fds, 1);
			execl("/proc/self/exe", "ustack-test-child", nullptr);
			_exit(1);
		}
		case 's':
			for (;;) {
				ut_a(20);
				ut_b(45);
			}
		default: _exit(0);
		}
		if (write(answers, &c, 1) != 1)
			break;
	}
	_exit(0);
}

namespace {

__attribute__((constructor)) void after_exec()
{
	const char *fds = getenv("USTACK_TEST_CHILD");
	int commands, answers;

	if (!fds || sscanf(fds, "%d %d", &commands, &answers) != 2)
		return;
	/* the exec is done: that is the answer to 'e' */
	if (write(answers, "e", 1) == 1)
		child(commands, answers);
	_exit(1);
}

} // namespace

} // namespace capture_scene
