/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What CPython's code objects are called: the walker's user side, as ruby/names.c.
 *
 * The table of lines is a bytes object: entries that begin with a byte above 127, which has how
 * many units of code it stands for, and in which form the line's difference follows.
 */
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include "runtimes/cpython/layout.h"
#include "runtimes/cpython/roots.h"
#include "runtimes/walker.h"

#define MAX_TEXT (4 * 4096 + 8)
#define MAX_TABLE (16u << 20)

static void fill_roots(const struct python_vm *vm, struct ustack_roots *roots)
{
	const struct python_layout *l = vm->layout;
	const uint64_t word[PYTHON_ROOTS] = {
		[PYTHON_ROOT_THREADS] = vm->interp + l->interp_threads,
		[PYTHON_ROOT_CODE_TYPE] = vm->code_type,
		[PYTHON_ROOT_THREAD_PREV] = l->thread_prev,
		[PYTHON_ROOT_THREAD_NEXT] = l->thread_next,
		[PYTHON_ROOT_THREAD_ID] = l->thread_id,
		[PYTHON_ROOT_THREAD_FRAME] = l->thread_frame,
		[PYTHON_ROOT_BY_CFRAME] = l->by_cframe,
		[PYTHON_ROOT_CFRAME_FRAME] = l->cframe_frame,
		[PYTHON_ROOT_CFRAME_PREVIOUS] = l->cframe_previous,
		[PYTHON_ROOT_FRAME_CODE] = l->frame_code,
		[PYTHON_ROOT_FRAME_INSTRUCTION] = l->frame_instruction,
		[PYTHON_ROOT_FRAME_IS_ENTRY] = l->frame_is_entry,
		[PYTHON_ROOT_FRAME_PREVIOUS] = l->frame_previous,
		[PYTHON_ROOT_FRAME_OWNER] = l->frame_owner,
		[PYTHON_ROOT_TYPE] = l->type,
		[PYTHON_ROOT_CODE_SIZE] = l->code_size,
		[PYTHON_ROOT_CODE_FIRST_LINE] = l->code_first_line,
		[PYTHON_ROOT_CODE_VERSION] = l->code_version,
		[PYTHON_ROOT_CODE_PATH] = l->code_path,
		[PYTHON_ROOT_CODE_NAME] = l->code_name,
		[PYTHON_ROOT_CODE_LINES] = l->code_lines,
		[PYTHON_ROOT_CODE_FIRST_TRACEABLE] = l->code_first_traceable,
		[PYTHON_ROOT_CODE_CODE] = l->code_code,
		[PYTHON_ROOT_STRING_LEN] = l->string_len,
		[PYTHON_ROOT_STRING_STATE] = l->string_state,
		[PYTHON_ROOT_STRING_ASCII] = l->string_ascii,
		[PYTHON_ROOT_STRING_COMPACT] = l->string_compact,
		[PYTHON_ROOT_BYTES_LEN] = l->bytes_len,
		[PYTHON_ROOT_BYTES_AT] = l->bytes_at,
	};

	_Static_assert(PYTHON_ROOTS <= USTACK_ROOT_WORDS, "room for all");
	roots->walker = USTACK_WALKER_CPYTHON;
	memcpy(roots->word, word, sizeof(word));
}

static int find(const struct target *t, struct walker_process *out)
{
	struct python_vm vm;
	int err = python_find(t, &vm);

	memcpy(out->version, vm.version, sizeof(out->version));
	if (err)
		return err;
	out->own = malloc(sizeof(vm));
	if (!out->own)
		return -ENOMEM;
	memcpy(out->own, &vm, sizeof(vm));
	out->loop = (struct walker_range){ vm.loop, vm.loop_end };
	fill_roots(&vm, &out->roots);
	return 0;
}

/* ---- lines --------------------------------------------------------------------------- */

enum { /* forms of an entry: below FORM_ONE_LINE the line stays */
	FORM_ONE_LINE = 10, /* and 11, 12: so many lines on */
	FORM_NO_COLUMNS = 13,
	FORM_LONG = 14,
	FORM_NONE = 15, /* code of no line */
};

/* A signed number, six bits a byte, the lowest first; its lowest bit is the sign. */
static int32_t signed_number(const unsigned char *from, const unsigned char *end)
{
	uint32_t value = 0;

	for (unsigned shift = 0; from < end && shift < 32; from++, shift += 6) {
		value |= (uint32_t)(*from & 63) << shift;
		if (!(*from & 64))
			break;
	}
	return value & 1 ? -(int32_t)(value >> 1) : (int32_t)(value >> 1);
}

static size_t entries_in(const unsigned char *table, size_t size)
{
	size_t n = 0;

	for (size_t i = 0; i < size; i++)
		n += table[i] >> 7;
	return n;
}

/* How many units of code they are for. */
static uint32_t take_entries(const unsigned char *table, size_t size, struct frame_names *out)
{
	const unsigned char *end = table + size;
	uint32_t line = out->first_line, position = 0;

	for (const unsigned char *at = table; at < end; at++) {
		const unsigned form = *at >> 3 & 15;

		if (!(*at & 128))
			continue;
		if (form == FORM_NO_COLUMNS || form == FORM_LONG)
			line += (uint32_t)signed_number(at + 1, end);
		else if (form >= FORM_ONE_LINE && form < FORM_NO_COLUMNS)
			line += form - FORM_ONE_LINE;
		out->lines[out->n_lines++] = (struct frame_line){ position, form == FORM_NONE ? 0 : line };
		position += (*at & 7u) + 1;
	}
	return position;
}

/* Is that the table that the kernel saw? Code with a number has that, and no other. */
static bool is_table(const struct ustack_object *o, const unsigned char *table, size_t size)
{
	return o->word[PYTHON_CODE_TABLE] >> 63 ||
	       (o->word[PYTHON_CODE_TABLE] == size && o->word[PYTHON_CODE_TABLE_DIGEST] == frame_digest(table, size));
}

static int read_lines(const struct target *t, const struct python_layout *l, const struct ustack_object *o,
		      struct frame_names *out)
{
	const uint64_t at = o->word[PYTHON_CODE_LINES], size = target_word(t, at + l->bytes_len);
	unsigned char *table;
	int err = -ENOMEM;

	out->first_line = (uint32_t)o->word[PYTHON_CODE_FIRST_LINE];
	if (size > MAX_TABLE)
		return -ESTALE;
	table = malloc(size + 1);
	if (table)
		err = size && target_read(t, at + l->bytes_at, table, size) ? -EFAULT : 0;
	if (!err && !is_table(o, table, size))
		err = -ESTALE;
	if (!err) {
		out->lines = calloc(entries_in(table, size) + 1, sizeof(*out->lines));
		err = out->lines ? 0 : -ENOMEM;
	}
	if (!err && take_entries(table, size, out) != o->word[PYTHON_CODE_SIZE])
		err = -ESTALE;
	free(table);
	return err;
}

/* ---- names --------------------------------------------------------------------------- */

/*
 * The str @value, if it has the size and the bytes that the kernel saw: the first, or, @last, the
 * last ones.
 */
static int read_text(const struct target *t, const struct python_layout *l, uint64_t value, uint32_t size,
		     const char *seen, size_t room, bool last, char **out)
{
	char text[MAX_TEXT], raw[USTACK_OBJECT_PATH];
	const size_t n = size < room ? size : room;
	uint64_t at, have;
	int err = python_string(t, l, value, text, sizeof(text), &at, &have);

	if (err || have != size || (n && target_read(t, last ? at + size - n : at, raw, n)) || memcmp(raw, seen, n))
		return err == -EFAULT ? err : -ESTALE;
	*out = strdup(text);
	return *out ? 0 : -ENOMEM;
}

static int read_texts(const struct target *t, const struct python_layout *l, const struct ustack_object *o,
		      struct frame_names *out)
{
	const uint64_t code = o->word[PYTHON_CODE_ADDRESS];
	int err = read_text(t, l, target_word(t, code + l->code_name), o->name_length, o->name, sizeof(o->name),
			    false, &out->name);

	if (err)
		return err;
	return read_text(t, l, target_word(t, code + l->code_path), o->path_length, o->path, sizeof(o->path), true,
			 &out->path);
}

/*
 * Memory that was freed keeps what it held, but for its first words; those of an object are its
 * references, of which one that is being freed has none, and a freed one an address.
 */
static bool is_alive(const struct target *t, uint64_t object)
{
	const uint64_t references = target_word(t, object);

	return references && !(references >> 32);
}

static int is_same(const struct target *t, const struct python_vm *vm, const struct ustack_object *o)
{
	const struct python_layout *l = vm->layout;
	const uint64_t code = o->word[PYTHON_CODE_ADDRESS];
	uint32_t line, number = 0;

	if (target_read(t, code + l->code_first_line, &line, sizeof(line)) ||
	    (l->code_version && target_read(t, code + l->code_version, &number, sizeof(number))))
		return -EFAULT;
	if (o->word[PYTHON_CODE_TABLE] >> 63 && (uint32_t)o->word[PYTHON_CODE_TABLE] != number)
		return -ESTALE;
	return is_alive(t, code) && target_word(t, code + l->type) == vm->code_type && line == o->word[PYTHON_CODE_FIRST_LINE] &&
			       target_word(t, code + l->code_size) == o->word[PYTHON_CODE_SIZE] &&
			       target_word(t, code + l->code_lines) == o->word[PYTHON_CODE_LINES] &&
			       target_word(t, code + PYTHON_AT_CONSTANTS) == o->word[PYTHON_CODE_CONSTANTS] &&
			       target_word(t, code + PYTHON_AT_CONSTANTS + 8) == o->word[PYTHON_CODE_NAMES] &&
			       target_word(t, code + PYTHON_AT_CONSTANTS + 16) == o->word[PYTHON_CODE_EXCEPTIONS] ?
		       0 :
		       -ESTALE;
}

static int read_object(const struct target *t, const struct walker_process *p, const struct ustack_object *o,
		       struct frame_names *out)
{
	const struct python_vm *vm = p->own;
	int err = read_texts(t, vm->layout, o, out);

	if (!err)
		err = read_lines(t, vm->layout, o, out);
	if (!err)
		err = is_same(t, vm, o);
	if (err) {
		frame_names_free(out);
		err = o->kind == PYTHON_KIND_CODE ? frame_names_of_object(o, out) : -ESTALE;
	}
	out->kind = "py";
	out->first_line = (uint32_t)o->word[PYTHON_CODE_FIRST_LINE];
	return err;
}

const struct walker cpython_walker = {
	.name = "cpython",
	.number = USTACK_WALKER_CPYTHON,
	.find = find,
	.read = read_object,
};
