/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The bitcode of capture.bpf.c as bytes in the library: a tracer that links it
 * into its probes then needs no file at run time. USTACK_BITCODE_FILE comes
 * from the build.
 */
#include "ustack.h"

__asm__(".pushsection .rodata\n"
	".balign 16\n"
	".local ustack_bitcode_start\n"
	".local ustack_bitcode_end\n"
	"ustack_bitcode_start:\n"
	".incbin \"" USTACK_BITCODE_FILE "\"\n"
	"ustack_bitcode_end:\n"
	".byte 0\n"
	".popsection\n");

extern const char ustack_bitcode_start[] __attribute__((visibility("hidden")));
extern const char ustack_bitcode_end[] __attribute__((visibility("hidden")));

const void *ustack_bitcode(size_t *size)
{
	*size = (size_t)(ustack_bitcode_end - ustack_bitcode_start);
	return ustack_bitcode_start;
}
