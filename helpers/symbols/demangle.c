/* SPDX-License-Identifier: Apache-2.0 */
/*
 * C++ names made readable, with the C++ runtime's own demangler. (Rust's older
 * scheme is valid C++ mangling.)
 *
 * A mangled name may refer back to parts of itself, so a name of 200 characters
 * can stand for gigabytes of text; the demangler would write them all. How
 * much a name can grow is estimated first, from above: what a back reference
 * stands for lies before the first use of its number and holds only references
 * of lower number. Names that may grow past a bound stay mangled.
 */
#include <stdlib.h>
#include <string.h>

#include "symbols/symtab.h"

#define MAX_MANGLED 4096
#define MAX_GROWN (64.0 * 1024 * 1024)
#define MAX_READABLE (64u << 10)
#define MAX_REFS 512

/* The C++ ABI's; from libstdc++ (or libc++abi). */
extern char *__cxa_demangle(const char *name, char *buf, size_t *size, int *status);

struct ref {
	long index; /* of the part referred to; -1: S_ or T_, the first */
	double size;
};

/* The number in S_, S0_, S1Z_, T_, T0_: base 36, -1 if there is none. Returns
 * the length up to the underscore, 0 if this is no back reference. */
static size_t ref_index(const char *s, long *index)
{
	size_t i = 1;
	long n = 0;

	while ((s[i] >= '0' && s[i] <= '9') || (s[i] >= 'A' && s[i] <= 'Z')) {
		n = n * 36 + (s[i] <= '9' ? s[i] - '0' : s[i] - 'A' + 10);
		if (++i > 5)
			return 0;
	}
	if (s[i] != '_')
		return 0;
	*index = i == 1 ? -1 : n;
	return i;
}

/* At most how long does the readable form get? */
static double grown_size(const char *name)
{
	double len = (double)strlen(name) * 8, total = len; /* "Sa" is std::allocator */
	struct ref refs[MAX_REFS];
	size_t n = 0, step;

	for (const char *s = name; *s; s++) {
		struct ref r;

		if ((*s != 'S' && *s != 'T') || !(step = ref_index(s, &r.index)))
			continue;
		if (n == MAX_REFS)
			return MAX_GROWN * 2;
		r.size = len;
		if (*s == 'T') /* a template argument: anything before it */
			r.size = total, r.index = 1l << 40;
		for (size_t i = 0; *s == 'S' && i < n; i++) {
			if (refs[i].index == r.index) {
				r.size = refs[i].size;
				break;
			}
			if (refs[i].index < r.index)
				r.size += refs[i].size;
		}
		total += r.size;
		refs[n++] = r;
		s += step;
	}
	return total;
}

char *demangle(const char *name)
{
	char *text;
	int status;

	if (name[0] != '_' || name[1] != 'Z' || strnlen(name, MAX_MANGLED) == MAX_MANGLED ||
	    grown_size(name) > MAX_GROWN)
		return NULL;
	text = __cxa_demangle(name, NULL, NULL, &status);
	if (text && strlen(text) > MAX_READABLE) {
		free(text);
		text = NULL;
	}
	return text;
}
