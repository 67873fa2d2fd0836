/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What Ruby's objects are called: the walker's user side.
 *
 * A piece of code is read when it is first seen, in a process that runs on: it may be freed
 * then, and another lie in its place. So the words that the kernel copied are read
 * again once all is read; and label and path must have the length and the bytes that
 * the kernel saw. A method in C has an ID for a name, and IDs stay what they are.
 *
 * Lines: a table of entries, and which instruction each begins at in a succinct
 * bit vector (iseq.c of Ruby): counts for the first 54 words of instructions, seven bits
 * each, and from there on blocks of 512 bits with counts, which tell whether it is one.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "runtimes/ruby/layout.h"
#include "runtimes/ruby/roots.h"
#include "runtimes/walker.h"

#define MAX_TEXT 4096
#define MAX_CODE (1u << 21) /* words of instructions */
#define IMMEDIATE 54        /* positions that have counts of their own; 9 in a word */
#define BLOCK 512

/* ---- what the kernel has to know ---------------------------------------------------- */

static void fill_roots(const struct ruby_vm *vm, struct ustack_roots *roots)
{
	const struct ruby_layout *l = vm->layout;
	const uint64_t word[RUBY_ROOTS] = {
		[RUBY_ROOT_TLS_MODULE] = vm->tls_module,
		[RUBY_ROOT_TLS_OFFSET] = vm->tls_offset,
		[RUBY_ROOT_FREED] = vm->space + l->space_freed,
		[RUBY_ROOT_COMPACTED] = vm->space + l->space_compacted,
		[RUBY_ROOT_EC_STACK] = l->ec_stack,
		[RUBY_ROOT_EC_STACK_SIZE] = l->ec_stack_size,
		[RUBY_ROOT_EC_CFP] = l->ec_cfp,
		[RUBY_ROOT_EC_NATIVE_START] = l->ec_native_start,
		[RUBY_ROOT_EC_NATIVE_SIZE] = l->ec_native_size,
		[RUBY_ROOT_CFP_PC] = l->cfp_pc,
		[RUBY_ROOT_CFP_ISEQ] = l->cfp_iseq,
		[RUBY_ROOT_CFP_EP] = l->cfp_ep,
		[RUBY_ROOT_CFP_SIZE] = l->cfp_size,
		[RUBY_ROOT_ISEQ_BODY] = l->iseq_body,
		[RUBY_ROOT_BODY_TYPE] = l->body_type,
		[RUBY_ROOT_BODY_ENCODED] = l->body_encoded,
		[RUBY_ROOT_BODY_PATH] = l->body_path,
		[RUBY_ROOT_BODY_LABEL] = l->body_label,
		[RUBY_ROOT_BODY_FIRST_LINE] = l->body_first_line,
		[RUBY_ROOT_BODY_RANGE] = l->body_range,
		[RUBY_ROOT_BODY_LINES] = l->body_lines,
		[RUBY_ROOT_BODY_N_LINES] = l->body_n_lines,
		[RUBY_ROOT_BODY_SUCC] = l->body_succ,
		[RUBY_ROOT_BODY_JIT] = l->body_jit,
		[RUBY_ROOT_LINE_SIZE] = l->line_size,
		[RUBY_ROOT_STRING_LEN] = l->string_len,
		[RUBY_ROOT_STRING_PTR] = l->string_ptr,
		[RUBY_ROOT_STRING_EMBED] = l->string_embed,
		[RUBY_ROOT_STRING_LEN_IN_FLAGS] = l->string_len_in_flags,
		[RUBY_ROOT_ARRAY_PTR] = l->array_ptr,
		[RUBY_ROOT_ARRAY_EMBED] = l->array_embed,
		[RUBY_ROOT_METHOD_DEF] = l->method_def,
		[RUBY_ROOT_DEF_FUNC] = l->def_func,
		[RUBY_ROOT_DEF_ID] = l->def_id,
	};

	_Static_assert(RUBY_ROOTS <= USTACK_ROOT_WORDS, "room for all");
	roots->walker = USTACK_WALKER_RUBY;
	memcpy(roots->word, word, sizeof(word));
}

static int find(const struct target *t, struct walker_process *out)
{
	struct ruby_vm vm;
	int err = ruby_find(t, &vm);

	memcpy(out->version, vm.version, sizeof(out->version));
	if (err)
		return err;
	out->own = malloc(sizeof(vm));
	if (!out->own)
		return -ENOMEM;
	memcpy(out->own, &vm, sizeof(vm));
	out->loop = (struct walker_range){ vm.loop, vm.loop_end };
	out->exec = (struct walker_range){ vm.exec, vm.exec_end };
	fill_roots(&vm, &out->roots);
	return 0;
}

/* ---- lines --------------------------------------------------------------------------- */

/* The positions at which entries begin, into out[]; how many there are, at most @max. */
static size_t immediate_positions(const uint64_t *part, size_t words, uint32_t *out, size_t max)
{
	unsigned before = 0;
	size_t n = 0;

	for (size_t i = 0; i < 9 * words; i++) {
		const unsigned rank = part[i / 9] >> 7 * (i % 9) & 127;

		if (rank != before && n < max)
			out[n++] = (uint32_t)i;
		before = rank;
	}
	return n;
}

static size_t block_positions(const unsigned char *bits, uint32_t first, uint32_t *out, size_t max)
{
	size_t n = 0;

	for (uint32_t i = 0; i < BLOCK; i++)
		if (bits[i / 8] >> i % 8 & 1 && n < max)
			out[n++] = first + i;
	return n;
}

static int read_positions(const struct target *t, const struct ruby_layout *l, uint64_t at, uint32_t size,
			  uint32_t *out, size_t max)
{
	const size_t words = (size < IMMEDIATE ? size + 8 : IMMEDIATE) / 9;
	const size_t blocks = size < IMMEDIATE ? 0 : (size - IMMEDIATE + BLOCK - 1) / BLOCK;
	uint64_t part[IMMEDIATE / 9];
	unsigned char bits[BLOCK / 8];
	uint32_t rank; /* how many before the block */
	size_t n;

	if (target_read(t, at, part, 8 * words))
		return -EFAULT;
	n = immediate_positions(part, words, out, max);
	for (size_t i = 0; i < blocks; i++) {
		const uint64_t block = at + l->succ_parts + i * l->succ_size;

		if (target_read(t, block, &rank, sizeof(rank)) || target_read(t, block + l->succ_bits, bits, sizeof(bits)))
			return -EFAULT;
		if (rank != n)
			return -ESTALE;
		n += block_positions(bits, (uint32_t)(IMMEDIATE + i * BLOCK), out + n, max - n);
	}
	return n == max ? 0 : -ESTALE;
}

/*
 * A frame's program counter is behind the instruction that it executes, or, before the
 * first one, at it: so what begins at a position begins for pc at the next.
 */
static int read_entries(const struct target *t, const struct ruby_layout *l, const struct ustack_object *o,
			struct frame_names *out, uint32_t *positions, unsigned char *entries)
{
	const size_t n = out->n_lines;
	int err = 0;

	if (n && target_read(t, o->word[RUBY_CODE_LINES], entries, n * l->line_size))
		return -EFAULT;
	if (frame_digest(entries, n * l->line_size) != o->word[RUBY_CODE_DIGEST])
		return -ESTALE;
	if (n > 1)
		err = read_positions(t, l, o->word[RUBY_CODE_SUCC], (uint32_t)(o->word[RUBY_CODE_TYPE] >> 32), positions, n);
	for (size_t i = 0; i < n; i++) {
		memcpy(&out->lines[i].line, entries + i * l->line_size + l->line_no, sizeof(uint32_t));
		out->lines[i].position = i ? positions[i] + 1 : 0;
	}
	return err;
}

static int read_lines(const struct target *t, const struct ruby_layout *l, const struct ustack_object *o,
		      struct frame_names *out)
{
	const uint64_t n = o->word[RUBY_CODE_N_LINES], size = o->word[RUBY_CODE_TYPE] >> 32;
	unsigned char *entries;
	uint32_t *positions;
	int err = -ENOMEM;

	if (size > MAX_CODE || n > size)
		return -ESTALE;
	out->lines = calloc(n + 1, sizeof(*out->lines));
	positions = calloc(n + 1, sizeof(*positions));
	entries = calloc(n + 1, l->line_size);
	if (out->lines && positions && entries) {
		out->n_lines = n;
		err = read_entries(t, l, o, out, positions, entries);
	}
	free(positions);
	free(entries);
	return err;
}

/* ---- names --------------------------------------------------------------------------- */

/* The body's words, as the walker copies them. */
static int code_is_same(const struct target *t, const struct ruby_layout *l, const struct ustack_object *o)
{
	const uint64_t body = o->word[RUBY_CODE_BODY];
	uint64_t range[2];

	if (target_read(t, body + l->body_range, range, sizeof(range)))
		return -EFAULT;
	return target_word(t, body + l->body_encoded) == o->word[RUBY_CODE_ENCODED] &&
			       target_word(t, body + l->body_type) == o->word[RUBY_CODE_TYPE] &&
			       target_word(t, body + l->body_first_line) == o->word[RUBY_CODE_FIRST_LINE] &&
			       range[0] == o->word[RUBY_CODE_RANGE] && range[1] == o->word[RUBY_CODE_RANGE2] &&
			       target_word(t, body + l->body_lines) == o->word[RUBY_CODE_LINES] &&
			       (uint32_t)target_word(t, body + l->body_n_lines) == o->word[RUBY_CODE_N_LINES] &&
			       target_word(t, body + l->body_succ) == o->word[RUBY_CODE_SUCC] ?
		       0 :
		       -ESTALE;
}

static int copy_text(char **out, const char *text)
{
	*out = strdup(text);
	return *out ? 0 : -ENOMEM;
}

/* Label and path: as long as the kernel saw them, and with the bytes that it saw. */
static int read_texts(const struct target *t, const struct ruby_layout *l, const struct ustack_object *o,
		      struct frame_names *out)
{
	const uint64_t body = o->word[RUBY_CODE_BODY];
	char name[MAX_TEXT], path[MAX_TEXT];
	size_t n;
	int err;

	if (ruby_string(t, l, target_word(t, body + l->body_label), name, sizeof(name)) != o->name_length ||
	    ruby_path(t, l, target_word(t, body + l->body_path), path, sizeof(path)) != o->path_length)
		return -ESTALE;
	n = o->name_length < sizeof(o->name) ? o->name_length : sizeof(o->name);
	if (memcmp(name, o->name, n))
		return -ESTALE;
	n = o->path_length < sizeof(o->path) ? o->path_length : sizeof(o->path);
	if (o->path_length < sizeof(path) && memcmp(path + o->path_length - n, o->path, n))
		return -ESTALE;
	err = copy_text(&out->name, name);
	return err ? err : copy_text(&out->path, path);
}

static int read_code(const struct target *t, const struct ruby_vm *vm, const struct ustack_object *o,
		     struct frame_names *out)
{
	const struct ruby_layout *l = vm->layout;
	int err = read_texts(t, l, o, out);

	if (!err)
		err = read_lines(t, l, o, out);
	if (!err)
		err = code_is_same(t, l, o);
	if (err) {
		frame_names_free(out);
		err = frame_names_of_object(o, out);
	}
	out->kind = "rb";
	out->first_line = (uint32_t)(l->body_first_line_is_value ? o->word[RUBY_CODE_FIRST_LINE] >> 1 :
								   o->word[RUBY_CODE_FIRST_LINE]);
	return err;
}

static int read_c_method(const struct target *t, const struct ruby_vm *vm, const struct ustack_object *o,
			 struct frame_names *out)
{
	char name[MAX_TEXT];
	int err;

	if (ruby_id(t, vm, o->word[RUBY_C_ID], name, sizeof(name)) < 0)
		return -ESTALE;
	out->kind = "cfunc";
	err = copy_text(&out->name, name);
	return err ? err : copy_text(&out->path, "");
}

static int read_object(const struct target *t, const struct walker_process *p, const struct ustack_object *o,
		       struct frame_names *out)
{
	int err = o->kind == RUBY_KIND_CODE ? read_code(t, p->own, o, out) :
		  o->kind == RUBY_KIND_C    ? read_c_method(t, p->own, o, out) :
					      -ESTALE;

	if (err)
		frame_names_free(out);
	return err;
}

const struct walker ruby_walker = {
	.name = "ruby",
	.number = USTACK_WALKER_RUBY,
	.find = find,
	.read = read_object,
};
