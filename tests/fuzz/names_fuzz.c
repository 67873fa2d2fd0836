/* SPDX-License-Identifier: Apache-2.0 */
/* Any bytes at all as a name, through the dialects and both ways of escaping. */
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct note_str name = { (const char *)data, size };
	char *exe;

	fuzz_name(name);
	escape_text(fuzz_null(), name.s, name.len);
	escape_json(fuzz_null(), name.s, name.len);
	exe = strndup(name.s, name.len);
	MUST(exe);
	runtime_hint(exe);
	free(exe);
	return 0;
}
