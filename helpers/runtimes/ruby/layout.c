/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Finding the VM. A Debian library shows few of its names (3.3 neither ruby_current_ec
 * nor rb_vm_exec), so only ruby_version is looked up, and the rest is known by
 * what it holds:
 *
 *   vm           the word of the library's data that leads to a vm, to its main thread,
 *                to the execution context of that, and back;
 *   symbols      the structure there through which the IDs of `initialize`, `each` and
 *                `method_missing` lead to those names;
 *   tls_offset   the word of the main thread's thread-local storage that is its context. Its
 *                pthread_t, which Ruby keeps, is the address of its control block; the
 *                module's number is in the library's GOT;
 *   loop         the function that the first instruction of a running method lies in: the
 *                VM's code is threaded, its instructions are addresses.
 *
 * The table is made by layout/derive from Ruby's own source and Debian's headers.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "runtimes/ruby/layout.h"

static const struct ruby_layout layouts[] = {
{
	.versions = "3.1.",
	.ec_stack = 0,
	.ec_stack_size = 8,
	.ec_cfp = 16,
	.ec_thread = 48,
	.ec_native_start = 144,
	.ec_native_size = 160,
	.thread_ec = 40,
	.thread_vm = 32,
	.thread_native = 0,
	.native_id = 80,
	.vm_main_thread = 40,
	.vm_objspace = 1104,
	.space_freed = 448,
	.space_compacted = 400,
	.cfp_pc = 0,
	.cfp_iseq = 16,
	.cfp_ep = 32,
	.cfp_size = 64,
	.iseq_body = 16,
	.body_type = 0,
	.body_size = 4,
	.body_encoded = 8,
	.body_path = 64,
	.body_label = 80,
	.body_first_line = 88,
	.body_first_line_is_value = 1,
	.body_range = 100,
	.body_lines = 120,
	.body_n_lines = 136,
	.body_succ = 144,
	.body_jit = 280,
	.string_len = 16,
	.string_ptr = 24,
	.string_embed = 16,
	.string_len_in_flags = 1,
	.array_len = 16,
	.array_ptr = 32,
	.array_embed = 16,
	.method_def = 16,
	.method_owner = 32,
	.def_func = 8,
	.def_id = 32,
	.symbols_last = 0,
	.symbols_ids = 16,
	.id_last_operator = 169,
	.id_initialize = 3121,
	.id_each = 3009,
	.id_method_missing = 2833,
	.line_no = 0,
	.line_size = 12,
	.succ_parts = 48,
	.succ_size = 80,
	.succ_ranks = 8,
	.succ_bits = 16,
},
{
	.versions = "3.3.",
	.ec_stack = 0,
	.ec_stack_size = 8,
	.ec_cfp = 16,
	.ec_thread = 48,
	.ec_native_start = 152,
	.ec_native_size = 168,
	.thread_ec = 48,
	.thread_vm = 32,
	.thread_native = 40,
	.native_id = 16,
	.vm_main_thread = 40,
	.vm_objspace = 1304,
	.space_freed = 88,
	.space_compacted = 1352,
	.cfp_pc = 0,
	.cfp_iseq = 16,
	.cfp_ep = 32,
	.cfp_size = 56,
	.iseq_body = 16,
	.body_type = 0,
	.body_size = 4,
	.body_encoded = 8,
	.body_path = 64,
	.body_label = 80,
	.body_first_line = 88,
	.body_first_line_is_value = 0,
	.body_range = 96,
	.body_lines = 112,
	.body_n_lines = 128,
	.body_succ = 136,
	.body_jit = 288,
	.string_len = 16,
	.string_ptr = 24,
	.string_embed = 24,
	.string_len_in_flags = 0,
	.array_len = 16,
	.array_ptr = 32,
	.array_embed = 16,
	.method_def = 16,
	.method_owner = 32,
	.def_func = 8,
	.def_id = 32,
	.symbols_last = 0,
	.symbols_ids = 16,
	.id_last_operator = 169,
	.id_initialize = 3137,
	.id_each = 3041,
	.id_method_missing = 2865,
	.line_no = 0,
	.line_size = 12,
	.succ_parts = 48,
	.succ_size = 80,
	.succ_ranks = 8,
	.succ_bits = 16,
},
};

#define MAX_DATA (4u << 20)   /* of the library, searched */
#define MAX_FRAMES 10000      /* of the main thread, looked at */
#define MAX_MODULE 4096       /* with thread-local storage */

/* ---- strings, arrays, IDs ------------------------------------------------------------ */

/* Type of the object @value, and its flags; -1: it is none. */
static int type_of(const struct target *t, uint64_t value, uint64_t *flags)
{
	if (!value || value & 7)
		return -1;
	*flags = target_word(t, value);
	return (int)(*flags & RUBY_T_MASK);
}

int64_t ruby_string(const struct target *t, const struct ruby_layout *l, uint64_t value, char *out, size_t size)
{
	uint64_t flags, at, len;
	size_t n;

	if (type_of(t, value, &flags) != RUBY_T_STRING)
		return -EINVAL;
	if (flags & RUBY_STRING_NOEMBED || !l->string_len_in_flags)
		len = target_word(t, value + l->string_len);
	else
		len = flags >> RUBY_STRING_LEN_SHIFT & 31;
	at = flags & RUBY_STRING_NOEMBED ? target_word(t, value + l->string_ptr) : value + l->string_embed;
	if (len > INT32_MAX)
		return -EINVAL;
	n = len < size ? (size_t)len : size - 1;
	out[n] = '\0';
	return n && target_read(t, at, out, n) ? -EFAULT : (int64_t)len;
}

/* The element @i of the Array @value; 0: there is none. */
static uint64_t element(const struct target *t, const struct ruby_layout *l, uint64_t value, uint64_t i)
{
	uint64_t flags, len, at;

	if (type_of(t, value, &flags) != RUBY_T_ARRAY)
		return 0;
	if (flags & RUBY_ARRAY_EMBED) {
		len = flags >> RUBY_ARRAY_LEN_SHIFT & 127;
		at = value + l->array_embed;
	} else {
		len = target_word(t, value + l->array_len);
		at = target_word(t, value + l->array_ptr);
	}
	return i < len ? target_word(t, at + 8 * i) : 0;
}

int64_t ruby_path(const struct target *t, const struct ruby_layout *l, uint64_t value, char *out, size_t size)
{
	const uint64_t path = element(t, l, value, 0);

	return ruby_string(t, l, path ? path : value, out, size);
}

static int64_t id_by(const struct target *t, const struct ruby_layout *l, uint64_t symbols, uint64_t id,
		     char *out, size_t size)
{
	const uint64_t serial = id > l->id_last_operator ? id >> RUBY_ID_SHIFT : id;
	const uint64_t ids = target_word(t, symbols + l->symbols_ids);
	uint64_t unit;

	if (!serial || serial > (uint32_t)target_word(t, symbols + l->symbols_last))
		return -EINVAL;
	unit = element(t, l, ids, serial / RUBY_IDS_UNIT);
	return ruby_string(t, l, element(t, l, unit, serial % RUBY_IDS_UNIT * 2), out, size);
}

int64_t ruby_id(const struct target *t, const struct ruby_vm *vm, uint64_t id, char *out, size_t size)
{
	return vm->symbols ? id_by(t, vm->layout, vm->symbols, id, out, size) : -EINVAL;
}

/* ---- what must be so ------------------------------------------------------------------ */

static bool is_context(const struct target *t, const struct ruby_layout *l, uint64_t ec)
{
	const uint64_t thread = target_word(t, ec + l->ec_thread);
	const uint64_t stack = target_word(t, ec + l->ec_stack), cfp = target_word(t, ec + l->ec_cfp);
	const uint64_t words = target_word(t, ec + l->ec_stack_size);

	return thread && target_word(t, thread + l->thread_ec) == ec && stack && words < 1u << 28 && cfp > stack &&
	       cfp < stack + 8 * words && !((stack + 8 * words - cfp) % l->cfp_size);
}

static uint64_t main_context(const struct target *t, const struct ruby_layout *l, uint64_t vm)
{
	const uint64_t thread = target_word(t, vm + l->vm_main_thread);

	return thread ? target_word(t, thread + l->thread_ec) : 0;
}

static bool is_vm(const struct target *t, const struct ruby_layout *l, uint64_t vm)
{
	const uint64_t thread = vm ? target_word(t, vm + l->vm_main_thread) : 0;

	return thread && target_word(t, thread + l->thread_vm) == vm &&
	       is_context(t, l, target_word(t, thread + l->thread_ec));
}

static bool names(const struct target *t, const struct ruby_layout *l, uint64_t symbols, uint64_t id, const char *name)
{
	char found[32];

	return id_by(t, l, symbols, id, found, sizeof(found)) == (int64_t)strlen(name) && !strcmp(found, name);
}

static bool is_symbols(const struct target *t, const struct ruby_layout *l, uint64_t symbols)
{
	return names(t, l, symbols, l->id_initialize, "initialize") && names(t, l, symbols, l->id_each, "each") &&
	       names(t, l, symbols, l->id_method_missing, "method_missing");
}

/* Is the frame's pc in its code, and that an instruction sequence with a name? Its first
 * instruction, then. */
static uint64_t frame_handler(const struct target *t, const struct ruby_layout *l, uint64_t pc, uint64_t iseq)
{
	const uint64_t flags = target_word(t, iseq), body = target_word(t, iseq + l->iseq_body);
	const uint64_t encoded = body ? target_word(t, body + l->body_encoded) : 0;
	uint32_t type, size;
	char text[8];

	if ((flags & RUBY_T_MASK) != RUBY_T_IMEMO ||
	    (flags >> RUBY_IMEMO_SHIFT & RUBY_IMEMO_MASK) != RUBY_IMEMO_ISEQ || !encoded ||
	    target_read(t, body + l->body_type, &type, sizeof(type)) ||
	    target_read(t, body + l->body_size, &size, sizeof(size)) || type >= RUBY_BODY_TYPES ||
	    pc < encoded || pc - encoded > 8ull * size)
		return 0;
	if (ruby_string(t, l, target_word(t, body + l->body_label), text, sizeof(text)) <= 0 ||
	    ruby_path(t, l, target_word(t, body + l->body_path), text, sizeof(text)) < 0)
		return 0;
	return target_word(t, encoded);
}

/* All frames of @ec. 0, with an instruction's address in *@handler; -EAGAIN. */
static int check_frames(const struct target *t, const struct ruby_layout *l, uint64_t ec, uint64_t *handler)
{
	const uint64_t stack = target_word(t, ec + l->ec_stack), words = target_word(t, ec + l->ec_stack_size);
	uint64_t cfp = target_word(t, ec + l->ec_cfp);

	*handler = 0;
	for (int i = 0; i < MAX_FRAMES && cfp >= stack && cfp + l->cfp_size <= stack + 8 * words; i++, cfp += l->cfp_size) {
		const uint64_t pc = target_word(t, cfp + l->cfp_pc), iseq = target_word(t, cfp + l->cfp_iseq);

		if (!pc || !iseq)
			continue;
		*handler = frame_handler(t, l, pc, iseq);
		if (!*handler)
			return -EAGAIN;
	}
	return *handler ? 0 : -EAGAIN;
}

/* ---- the search ------------------------------------------------------------------------ */

typedef bool (*is_it)(const struct target *t, const struct ruby_layout *l, uint64_t what);

/* The first of the library's data's words (or, @inside, of its addresses) that @is. */
static uint64_t search(const struct image *image, const struct ruby_layout *l, is_it is, bool inside)
{
	const uint64_t at = (image->data + 7) & ~7ull, size = image->data_end - at;
	uint64_t found = 0;
	uint64_t *words;

	if (!image->data || at >= image->data_end || size > MAX_DATA || !(words = malloc(size)))
		return 0;
	if (!target_read(image->target, at, words, size))
		for (uint64_t i = 0; !found && i < size / 8; i++) {
			const uint64_t what = inside ? at + 8 * i : words[i];

			/* Nothing that is looked for is in the first pages, or not aligned. */
			if (words[i] >= 4096 || inside)
				found = !(what & 7) && is(image->target, l, what) ? what : 0;
		}
	free(words);
	return found;
}

/* The control block of the main thread, which begins with its own address. */
static uint64_t main_control_block(const struct target *t, const struct ruby_layout *l, uint64_t vm)
{
	const uint64_t thread = target_word(t, vm + l->vm_main_thread);
	const uint64_t native = l->thread_native ? target_word(t, thread + l->thread_native) : thread;
	const uint64_t tcb = native ? target_word(t, native + l->native_id) : 0;

	return tcb && target_word(t, tcb) == tcb ? tcb : 0;
}

static int find_offset(const struct image *image, const struct ruby_layout *l, struct ruby_vm *out)
{
	const struct target *t = image->target;
	const uint64_t module = image_tls_module(image), tcb = main_control_block(t, l, out->vm);
	const uint64_t dtv = tcb && module && module <= MAX_MODULE ? target_word(t, tcb + 8) : 0;
	const uint64_t block = dtv ? target_word(t, dtv + 16 * module) : 0;
	const uint64_t ec = main_context(t, l, out->vm);

	for (uint64_t off = 0; block && !(block & 7) && off + 8 <= image->tls_size && off < 4096; off += 8)
		if (target_word(t, block + off) == ec) {
			out->tls_module = module;
			out->tls_offset = off;
			return 0;
		}
	return -EAGAIN;
}

static int find_loop(const struct image *image, struct ruby_vm *out, uint64_t handler)
{
	Elf64_Sym sym;

	if (handler < image->code || handler >= image->code_end ||
	    image_function(image, handler, &out->loop, &out->loop_end))
		return -EAGAIN;
	if (!image_symbol(image, "rb_vm_exec", &sym) && image->bias + sym.st_value != out->loop) {
		out->exec = image->bias + sym.st_value;
		out->exec_end = out->exec + sym.st_size;
	}
	return 0;
}

static int read_version(const struct image *image, struct ruby_vm *out)
{
	Elf64_Sym sym;
	int err = image_symbol(image, "ruby_version", &sym);

	if (err)
		return err == -EFAULT ? -EAGAIN : -ENOENT;
	if (sym.st_size < 2 || sym.st_size > sizeof(out->version) ||
	    target_read(image->target, image->bias + sym.st_value, out->version, sym.st_size))
		return -EAGAIN;
	out->version[sizeof(out->version) - 1] = '\0';
	for (size_t i = 0; i < sizeof(layouts) / sizeof(layouts[0]); i++)
		if (!strncmp(out->version, layouts[i].versions, strlen(layouts[i].versions)))
			out->layout = &layouts[i];
	return out->layout ? 0 : -ENOTSUP;
}

static int find_in(const struct image *image, struct ruby_vm *out)
{
	const struct target *t = image->target;
	const struct ruby_layout *l;
	uint64_t handler;
	int err = read_version(image, out);

	if (err)
		return err;
	l = out->layout;
	out->vm = search(image, l, is_vm, false);
	if (!out->vm)
		return -EAGAIN;
	err = check_frames(t, l, main_context(t, l, out->vm), &handler);
	if (!err)
		err = find_loop(image, out, handler);
	if (!err)
		err = find_offset(image, l, out);
	if (err)
		return err;
	out->space = target_word(t, out->vm + l->vm_objspace);
	out->symbols = search(image, l, is_symbols, true);
	return out->space ? 0 : -EAGAIN;
}

static bool may_be(const struct target_mapping *m)
{
	const char *name = strrchr(m->path, '/');

	return name && !m->offset && (!strncmp(name, "/libruby", 8) || !strncmp(name, "/ruby", 5));
}

int ruby_find(const struct target *t, struct ruby_vm *out)
{
	int err = -ENOENT;

	for (size_t i = 0; err == -ENOENT && i < t->n_maps; i++) {
		struct image image;

		*out = (struct ruby_vm){ 0 };
		if (may_be(&t->maps[i]) && !image_open(t, t->maps[i].start, &image))
			err = find_in(&image, out);
	}
	return err;
}
