/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which line an instruction of a block belongs to. YJIT 3.1 keeps no table of it. A
 * block is mostly a few instructions of bytecode of one line; where it has several
 * lines, the machine code itself tells:
 *
 * - marks: code that may leave for the interpreter or call a function of Ruby's names the
 *   bytecode it is at, as a jump to an exit that stores the program counter, or a store
 *   of it in place;
 * - forms: instructions that do neither (they move values between locals and the stack)
 *   have one form each, in which YJIT writes them.
 *
 * Between two marked instructions of bytecode stand some with forms. If there is just
 * one place where the code has these forms, in their order and with their operands,
 * then what comes before it is the first one's and what comes after the second's. What
 * is not certain gets no line: the function and its definition are shown then.
 */
#include <errno.h>
#include "lines.h"

extern const uint8_t rb_vm_insn_len_info[];

enum {
	OPCODES = 2048, /* places of the table, a power of two; Ruby has some 200 */
	BYTECODES = 256,
	NONE = -1,
};

/* ---- opcodes: where the interpreter's code for them is ---------------------------- */

static struct { VALUE address; int opcode; } opcodes[OPCODES];

static unsigned place_of(VALUE address)
{
	unsigned i = (unsigned)(address * 0x9e3779b97f4a7c15u >> 40) % OPCODES;

	while (opcodes[i].address && opcodes[i].address != address)
		i = (i + 1) % OPCODES;
	return i;
}

static int opcode_of(VALUE encoded)
{
	unsigned i = place_of(encoded);

	return opcodes[i].address ? opcodes[i].opcode : NONE;
}

static bool knows_all(const rb_iseq_t *iseq)
{
	const VALUE *code = iseq->body->iseq_encoded;

	for (unsigned i = 0; i < iseq->body->iseq_size; ) {
		int opcode = opcode_of(code[i]);

		if (opcode == NONE)
			return false;
		i += rb_vm_insn_len_info[opcode];
	}
	return true;
}

void yn_learn_opcodes(const rb_iseq_t *iseq)
{
	const VALUE *plain;

	if (!iseq->body->iseq_encoded || knows_all(iseq))
		return;
	plain = rb_iseq_original_iseq(iseq);
	for (unsigned i = 0; i < iseq->body->iseq_size; i += rb_vm_insn_len_info[plain[i]]) {
		VALUE address = iseq->body->iseq_encoded[i];

		opcodes[place_of(address)].opcode = (int)plain[i];
		opcodes[place_of(address)].address = address;
	}
}

/* ---- a block of bytecode ------------------------------------------------------------ */

struct bytecode {
	uint32_t idx, line, size;
	int opcode;
	const VALUE *operands;
};

struct block {
	const struct yn_region *region;
	struct yn_code *code;
	uint64_t encoded;              /* address of the bytecode of index 0 */
	struct bytecode at[BYTECODES];
	int n;
	int16_t mark[YN_INSNS];        /* number of the bytecode; NONE */
};

static int read_block(const rb_iseq_t *iseq, uint32_t first, uint32_t end, struct block *b)
{
	b->encoded = (uint64_t)iseq->body->iseq_encoded;
	b->n = 0;
	for (uint32_t i = first; i < end && i < iseq->body->iseq_size; ) {
		struct bytecode *c = &b->at[b->n];

		c->opcode = opcode_of(iseq->body->iseq_encoded[i]);
		if (c->opcode == NONE || ++b->n == BYTECODES)
			return -EINVAL;
		c->idx = i;
		c->size = rb_vm_insn_len_info[c->opcode];
		c->operands = &iseq->body->iseq_encoded[i + 1];
		c->line = rb_iseq_line_no(iseq, i);
		i += c->size;
	}
	/* A block that can't begin is one exit, and has none. */
	if (!b->n) {
		b->at[0] = (struct bytecode){ .idx = first, .line = rb_iseq_line_no(iseq, first), .opcode = NONE };
		b->n = 1;
	}
	return 0;
}

/* The line of the bytecodes [from, to), if they have one; 0. */
static uint32_t common_line(const struct block *b, int from, int to)
{
	for (int k = from + 1; k < to; k++)
		if (b->at[k].line != b->at[from].line)
			return 0;
	return from < to ? b->at[from].line : 0;
}

static void give_line(struct yn_code *code, int from, int to, uint32_t line)
{
	for (int i = from; i < to; i++)
		code->line[i] = line;
}

/* ---- marks --------------------------------------------------------------------------- */

static bool is_move_of_number(const struct yn_insn *x)
{
	return !x->two_byte && (x->opcode & 0xf8) == 0xb8;
}

static bool is_store(const struct yn_insn *x, unsigned base, int32_t displacement)
{
	return !x->two_byte && x->opcode == 0x89 && x->wide && x->memory && x->base == base &&
	       x->displacement == displacement;
}

static bool is_store_of_pc(const struct yn_insn *x)
{
	return is_store(x, YN_R13, offsetof(rb_control_frame_t, pc));
}

bool yn_is_exit(const struct yn_region *region, uint64_t address, uint64_t *pc)
{
	struct yn_insn x;

	if (address - region->start >= 2 * region->half)
		return false;
	for (int i = 0; i < 4; i++) {
		if (yn_decode((const uint8_t *)address, 16, address, &x))
			return false;
		address += x.size;
		if (is_move_of_number(&x) && x.reg == YN_RAX) {
			*pc = x.immediate;
			return !yn_decode((const uint8_t *)address, 16, address, &x) && is_store_of_pc(&x);
		}
		/* The stack pointer is brought up to date before. */
		if (!(x.opcode == 0x8d && x.reg == YN_RBX) && !is_store(&x, YN_R13, offsetof(rb_control_frame_t, sp)))
			return false;
	}
	return false;
}

static int number_of(const struct block *b, uint64_t pc, bool behind)
{
	uint64_t idx = (pc - b->encoded) / sizeof(VALUE);

	if (pc < b->encoded || (pc - b->encoded) % sizeof(VALUE))
		return NONE;
	for (int k = 0; k < b->n; k++)
		if (b->at[k].idx + (behind ? b->at[k].size : 0) == idx)
			return k;
	return NONE;
}

static int mark_of(const struct block *b, uint32_t i)
{
	const struct yn_insn *x = &b->code->insn[i];
	uint64_t pc;

	if (yn_jumps(x))
		return yn_is_exit(b->region, x->immediate, &pc) ? number_of(b, pc, false) : NONE;
	if (is_move_of_number(x) && i + 2 < b->code->n && is_store_of_pc(x + 1) && x[1].reg == x->reg)
		/* An exit in place says where the interpreter begins; a call, where it goes on. */
		return number_of(b, x->immediate, !(x[2].opcode == 0x58 + YN_RBX));
	return NONE;
}

static int find_marks(struct block *b)
{
	int last = 0;

	for (uint32_t i = 0; i < b->code->n; i++) {
		b->mark[i] = (int16_t)mark_of(b, i);
		if (b->mark[i] == NONE)
			continue;
		if (b->mark[i] < last)
			return -EINVAL;
		last = b->mark[i];
	}
	return 0;
}

static int first_mark(const struct block *b, int k)
{
	for (uint32_t i = 0; i < b->code->n; i++)
		if (b->mark[i] == k)
			return (int)i;
	return NONE;
}

static int last_mark(const struct block *b, int k)
{
	for (int i = (int)b->code->n - 1; i >= 0; i--)
		if (b->mark[i] == k)
			return i;
	return NONE;
}

/* ---- forms ------------------------------------------------------------------------- */

/* What is left to match, and of what it has to be. */
struct match {
	const struct block *b;
	int i, k;
	bool fits;
};

static const struct yn_insn *next(struct match *m)
{
	static const struct yn_insn nothing = { .two_byte = true };

	if (m->i >= (int)m->b->code->n) {
		m->fits = false;
		return &nothing;
	}
	return &m->b->code->insn[m->i++];
}

static void load(struct match *m, unsigned reg, unsigned base)
{
	const struct yn_insn *x = next(m);

	if (x->two_byte || x->opcode != 0x8b || !x->wide || !x->memory || x->reg != reg || x->base != base)
		m->fits = false;
}

static void load_at(struct match *m, unsigned reg, unsigned base, int32_t displacement)
{
	load(m, reg, base);
	if (m->fits && m->b->code->insn[m->i - 1].displacement != displacement)
		m->fits = false;
}

static void store(struct match *m, unsigned reg, unsigned base)
{
	const struct yn_insn *x = next(m);

	if (x->two_byte || x->opcode != 0x89 || !x->wide || !x->memory || x->reg != reg || x->base != base)
		m->fits = false;
}

static void push_value(struct match *m, VALUE value)
{
	const struct yn_insn *x = next(m);

	if (SPECIAL_CONST_P(value) && (int64_t)value == (int32_t)value) {
		if (x->two_byte || x->opcode != 0xc7 || !x->memory || x->base != YN_RBX || x->immediate != value)
			m->fits = false;
		return;
	}
	if (!is_move_of_number(x) || x->reg != YN_RAX || x->immediate != value)
		m->fits = false;
	store(m, YN_RAX, YN_RBX);
}

static void environment(struct match *m, VALUE level)
{
	load_at(m, YN_RAX, YN_R13, offsetof(rb_control_frame_t, ep));
	for (VALUE l = 0; l < level && m->fits; l++) {
		const struct yn_insn *x;

		load_at(m, YN_RAX, YN_RAX, (int32_t)sizeof(VALUE) * VM_ENV_DATA_INDEX_SPECVAL);
		x = next(m);
		if (x->two_byte || x->opcode != 0x83 || x->memory || x->base != YN_RAX || x->immediate != ~(uint64_t)3)
			m->fits = false;
	}
}

static void get_local(struct match *m, VALUE idx, VALUE level)
{
	environment(m, level);
	load_at(m, YN_RAX, YN_RAX, -(int32_t)(sizeof(VALUE) * idx));
	store(m, YN_RAX, YN_RBX);
}

static void set_local(struct match *m, VALUE idx, VALUE level)
{
	const struct yn_insn *x;

	environment(m, level);
	x = next(m);
	if ((x->opcode & 0xfe) != 0xf6 || !x->memory || x->base != YN_RAX)
		m->fits = false;
	if (m->i >= (int)m->b->code->n || m->b->mark[m->i] != m->k)
		m->fits = false;
	next(m);
	load(m, YN_RCX, YN_RBX);
	store(m, YN_RCX, YN_RAX);
	if (m->fits && m->b->code->insn[m->i - 1].displacement != -(int32_t)(sizeof(VALUE) * idx))
		m->fits = false;
}

static void copies(struct match *m, int n)
{
	while (n--) {
		load(m, YN_RAX, YN_RBX);
		store(m, YN_RAX, YN_RBX);
	}
}

static void exchange(struct match *m)
{
	load(m, YN_RAX, YN_RBX);
	load(m, YN_RCX, YN_RBX);
	store(m, YN_RCX, YN_RBX);
	store(m, YN_RAX, YN_RBX);
}

/* False: it is of no form. */
static bool form(struct match *m, const struct bytecode *c)
{
	const VALUE *o = c->operands;

	switch (c->opcode) {
	case BIN(nop): case BIN(pop): case BIN(adjuststack): break;
	case BIN(dup): case BIN(setn): case BIN(topn): copies(m, 1); break;
	case BIN(dupn): copies(m, 2); break;
	case BIN(swap): exchange(m); break;
	case BIN(putnil): push_value(m, Qnil); break;
	case BIN(putobject): push_value(m, o[0]); break;
	case BIN(putobject_INT2FIX_0_): push_value(m, INT2FIX(0)); break;
	case BIN(putobject_INT2FIX_1_): push_value(m, INT2FIX(1)); break;
	case BIN(putself):
		load_at(m, YN_RAX, YN_R13, offsetof(rb_control_frame_t, self));
		store(m, YN_RAX, YN_RBX);
		break;
	case BIN(getlocal): get_local(m, o[0], o[1]); break;
	case BIN(getlocal_WC_0): get_local(m, o[0], 0); break;
	case BIN(getlocal_WC_1): get_local(m, o[0], 1); break;
	case BIN(setlocal): set_local(m, o[0], o[1]); break;
	case BIN(setlocal_WC_0): set_local(m, o[0], 0); break;
	case BIN(setlocal_WC_1): set_local(m, o[0], 1); break;
	default: return false;
	}
	return true;
}

static bool has_form(const struct block *b, int k)
{
	struct match m = { .b = b, .i = (int)b->code->n, .k = k };

	return form(&m, &b->at[k]);
}

/* Where the bytecodes [from, to), all of a form, end if they begin at @i; NONE: they don't. */
static int matches(const struct block *b, int from, int to, int i, uint32_t *lines)
{
	struct match m = { .b = b, .i = i, .fits = true };

	for (m.k = from; m.k < to && m.fits; m.k++) {
		int begin = m.i;

		form(&m, &b->at[m.k]);
		for (int j = begin; m.fits && j < m.i; j++) {
			if (b->mark[j] != NONE && b->mark[j] != m.k)
				m.fits = false;
			if (lines)
				lines[j] = b->at[m.k].line;
		}
	}
	return m.fits ? m.i : NONE;
}

/* The one place in [low, high] where they do; NONE: none, or several. */
static int only_match(const struct block *b, int from, int to, int low, int high)
{
	int found = NONE;

	for (int i = low; i <= high; i++) {
		int end = matches(b, from, to, i, NULL);

		if (end == NONE || end > high)
			continue;
		if (end == i || found != NONE)
			return NONE; /* no code at all fits anywhere */
		found = i;
	}
	return found;
}

/* Where bytecode @k, which has no form, begins, if its first mark is at @mark: some have
 * their first few instructions in common. */
static int begin_of(const struct block *b, int k, int mark)
{
	const struct yn_insn *x = &b->code->insn[mark];
	bool leaves = b->at[k].opcode == BIN(leave);

	switch (b->at[k].opcode) {
	case BIN(leave): case BIN(jump): case BIN(branchif): case BIN(branchunless): case BIN(branchnil): break;
	default: return mark;
	}
	/* Is there an interrupt? mov eax, [r12 + mask]; not eax; test [r12 + flag], eax */
	if (mark < 3 + leaves || x[-3].opcode != 0x8b || x[-3].base != YN_R12 || x[-2].opcode != 0xf7 ||
	    x[-1].opcode != 0x85 || x[-1].base != YN_R12)
		return mark;
	/* mov rcx, [r13 + ep] */
	if (leaves && (x[-4].opcode != 0x8b || x[-4].base != YN_R13 || x[-4].reg != YN_RCX))
		return mark;
	return mark - 3 - leaves;
}

/* ---- together ------------------------------------------------------------------------ */

static int run_of_forms(const struct block *b, int k)
{
	while (k < b->n && has_form(b, k))
		k++;
	return k;
}

/* Instruction @i is of bytecode @k, which has no form: give lines up to where the next
 * such begins to be certain. Returns that one's number; *@i its instruction. */
static int step(struct block *b, int k, int *i)
{
	int to = run_of_forms(b, k + 1), n = (int)b->code->n, at;
	int mark = to < b->n ? first_mark(b, to) : NONE;
	int low = last_mark(b, k) + 1 > *i ? last_mark(b, k) + 1 : *i;
	int high = mark == NONE ? n : begin_of(b, to, mark);

	if (k + 1 == b->n) { /* all the rest is its own */
		give_line(b->code, *i, n, b->at[k].line);
		return b->n;
	}
	give_line(b->code, *i, low, b->at[k].line);
	at = k + 1 < to && high >= low ? only_match(b, k + 1, to, low, high) : NONE;
	if (at != NONE) {
		give_line(b->code, low, at, b->at[k].line);
		*i = matches(b, k + 1, to, at, b->code->line);
		if (to == b->n) /* a jump to the block that comes next */
			give_line(b->code, *i, n, b->at[to - 1].line);
		return to;
	}
	if (mark == NONE) {
		give_line(b->code, low, n, common_line(b, k, b->n));
		return b->n;
	}
	give_line(b->code, low, high, common_line(b, k, high < mark ? to : to + 1));
	*i = high;
	return to;
}

void yn_find_lines(const struct yn_region *region, const rb_iseq_t *iseq, uint32_t first, uint32_t end,
		   struct yn_code *code)
{
	static struct block b; /* one at a time: under the VM's lock */
	uint32_t line;
	int k, i = 0;

	b.region = region;
	b.code = code;
	if (read_block(iseq, first, end, &b))
		return;
	line = common_line(&b, 0, b.n);
	give_line(code, 0, (int)code->n, line);
	if (line || find_marks(&b))
		return;
	k = run_of_forms(&b, 0);
	i = matches(&b, 0, k, 0, code->line);
	if (i == NONE) {
		give_line(code, 0, (int)code->n, 0);
		return;
	}
	if (k == b.n)
		give_line(code, i, (int)code->n, b.at[k - 1].line);
	while (k < b.n)
		k = step(&b, k, &i);
}

int yn_take_apart(uint64_t start, uint64_t size, struct yn_code *out)
{
	uint32_t at = 0;

	out->start = start;
	out->size = (uint32_t)size;
	out->n = 0;
	if (size > UINT16_MAX)
		return -E2BIG;
	while (at < size) {
		struct yn_insn *x = &out->insn[out->n];
		int err = out->n == YN_INSNS ? -E2BIG
					     : yn_decode((const uint8_t *)start + at, size - at, start + at, x);

		/* Nothing that YJIT writes computes with the stack pointer. */
		if (!err && !x->two_byte && !x->memory && x->base == 4 && (x->opcode & 0xfc) == 0x80)
			err = -EINVAL;
		if (err) {
			out->n = 0;
			return err;
		}
		x->at = (uint16_t)at;
		out->line[out->n++] = 0;
		at += x->size;
	}
	return 0;
}
