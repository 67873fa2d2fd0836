/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which code is new, and which is no longer what it was.
 *
 * YJIT compiles where the program is about to go on: the block that it was asked for
 * is one of those of the running frame's instruction sequence, at the frame's program
 * counter. What it compiles with it is linked behind it. That is all that is looked
 * at, whatever there is besides, so the cost is that of what is new.
 *
 * A block gets a note for its instructions, and the exits and stubs that it jumps to,
 * in the other half of the memory, get theirs. The entry from the interpreter stands
 * before a method's first block and belongs to no block.
 *
 * Code stays where it is for ever. What can change are the jumps between blocks:
 *
 * - the jump at a block's end, while it leads to a stub: when the stub's block is
 *   compiled, it may be put into the jump's place. So these 5 bytes are told of when
 *   they lead to a block, which they then do for good;
 * - a block that is no longer valid: its first 5 bytes become a jump to an exit, or
 *   part of the block before it, that used to go on into it. Those bytes get no name
 *   from then on. The rest is not entered again, but may still be returned to, and
 *   stays what it is;
 * - all of it, when a TracePoint is used: places behind calls become jumps to exits;
 *   they belong to the same function.
 */
#include "changes.h"
#include <errno.h>
#include "lines.h"

enum {
	JUMP = 5,     /* bytes of a jump to anywhere in YJIT's memory */
	SAVED = 32,   /* CFA - sp: the return address, and three registers that the entry pushes */
	ENTRY = 256,  /* the entry's size at most, rounded up to where the next could begin */
	ALIGNED = 64, /* where an entry begins */
	OUTLINED = 96, /* bytes of an exit or a stub at most */
};

/* What is being told of; under the VM's lock. */
static struct yn_name name;
static struct yn_code code;

/* ---- code out of line ----------------------------------------------------------- */

/* An exit or a stub of the block that is being told of. */
struct outlined {
	uint64_t start, end;
	uint32_t line;
	bool returns; /* an exit: it pops what the entry pushed */
};

static struct outlined outlined[2 * YN_INSNS];
static size_t n_outlined;

/* It goes on until it returns or jumps. */
static void add_outlined(uint64_t address, uint32_t line)
{
	struct yn_insn x;
	uint64_t end = address;

	if (n_outlined == sizeof(outlined) / sizeof(*outlined) || yn_told(address))
		return;
	do {
		if (yn_decode((const uint8_t *)end, 16, end, &x))
			return;
		end += x.size;
	} while (!yn_ends(&x) && end - address < OUTLINED);
	if (yn_ends(&x))
		outlined[n_outlined++] = (struct outlined){ address, end, line, x.opcode == 0xc3 };
}

static void add_exit(const struct yn_region *region, const rb_iseq_t *iseq, uint64_t address)
{
	const struct rb_iseq_constant_body *body = iseq->body;
	uint64_t pc, idx;

	if (!yn_is_outlined(region, address) || !yn_is_exit(region, address, &pc))
		return;
	idx = (pc - (uint64_t)body->iseq_encoded) / sizeof(VALUE);
	if (pc >= (uint64_t)body->iseq_encoded && idx < body->iseq_size)
		add_outlined(address, rb_iseq_line_no(iseq, idx));
}

/* A stub is about to compile what comes next: in this method, on a line of its own. */
static void add_stubs(const struct yn_region *region, const struct yjit_block_version *block)
{
	for (int i = 0; i < rb_darray_size(block->outgoing); i++) {
		const struct yn_branch *branch = rb_darray_get(block->outgoing, i);

		for (int t = 0; t < 2; t++) {
			bool here = branch->targets[t].iseq == block->id.iseq;

			if (!branch->blocks[t] && yn_is_outlined(region, (uint64_t)branch->addresses[t]))
				add_outlined((uint64_t)branch->addresses[t],
					     here ? rb_iseq_line_no(block->id.iseq, branch->targets[t].idx) : 0);
		}
	}
}

static int by_start(const void *a, const void *b)
{
	const struct outlined *x = a, *y = b;

	return x->start < y->start ? -1 : x->start > y->start;
}

/* They mostly stand one behind the other, and then one note does for several: @n of
 * them, all exits or all stubs. */
static void tell_run(const struct outlined *run, size_t n)
{
	uint64_t start = run[0].start;
	size_t k = 0;

	if (yn_take_apart(start, run[n - 1].end - start, &code))
		return;
	for (uint32_t i = 0; i < code.n; i++) {
		while (start + code.insn[i].at >= run[k].end)
			k++;
		code.line[i] = run[k].line;
	}
	yn_tell(&code, name.function, name.file, name.line, run->returns ? 0 : SAVED, SAVED);
}

static void tell_outlined(void)
{
	size_t kept = 0, from = 0;

	qsort(outlined, n_outlined, sizeof(*outlined), by_start);
	for (size_t i = 0; i < n_outlined; i++) /* several jump to one exit */
		if (!kept || outlined[kept - 1].end <= outlined[i].start)
			outlined[kept++] = outlined[i];
	for (size_t i = 1; i <= kept; i++) {
		if (i < kept && outlined[i].start == outlined[i - 1].end && outlined[i].returns == outlined[from].returns)
			continue;
		tell_run(&outlined[from], i - from);
		from = i;
	}
	n_outlined = 0;
}

/* ---- a block ------------------------------------------------------------------------ */

static const struct yn_branch *last_branch(const struct yjit_block_version *block)
{
	int n = rb_darray_size(block->outgoing);

	return n ? rb_darray_get(block->outgoing, n - 1) : NULL;
}

static bool leads_to_stub(const struct yn_branch *branch)
{
	return (branch->targets[0].iseq && !branch->blocks[0]) || (branch->targets[1].iseq && !branch->blocks[1]);
}

/* The end of what will stay the block's: without the jump at its end that may go. */
static uint64_t lasting_end(const struct yjit_block_version *block)
{
	const struct yn_branch *branch = last_branch(block);
	uint64_t end = (uint64_t)block->end;

	if (branch && branch->end == block->end && branch->end - branch->start >= JUMP && leads_to_stub(branch) &&
	    *(const uint8_t *)(end - JUMP) == 0xe9)
		return end - JUMP;
	return end;
}

/* Take [start, end) of the block apart, with the lines of all of it. */
static void take_block(const struct yn_region *region, const struct yjit_block_version *block, uint64_t end)
{
	uint64_t start = (uint64_t)block->start;

	if (!yn_take_apart(start, (uint64_t)block->end - start, &code))
		yn_find_lines(region, block->id.iseq, block->id.idx, block->end_idx, &code);
	while (code.n && code.insn[code.n - 1].at >= end - start)
		code.n--;
	code.size = (uint32_t)(end - start);
}

static void tell_block(const struct yn_region *region, const struct yjit_block_version *block,
		       const rb_callable_method_entry_t *entry)
{
	uint64_t end = lasting_end(block);

	yn_name(block->id.iseq, entry, &name);
	take_block(region, block, end);
	for (uint32_t i = 0; i < code.n; i++)
		if (yn_jumps(&code.insn[i]))
			add_exit(region, block->id.iseq, code.insn[i].immediate);
	if (end > (uint64_t)block->start)
		yn_tell(&code, name.function, name.file, name.line, code.n ? SAVED : 0, SAVED);
	add_exit(region, block->id.iseq, (uint64_t)block->entry_exit);
	add_stubs(region, block);
	tell_outlined();
}

/* The entry before a method's first block: at a multiple of 64, up to the block. */
static void tell_entry(const struct yjit_block_version *block)
{
	static const uint8_t pushes[] = { 0x41, 0x55, 0x41, 0x54, 0x53 };
	uint64_t end = (uint64_t)block->start, start = end & -(uint64_t)ALIGNED;

	if (block->id.idx)
		return;
	for (; end - start < ENTRY && (start == end || !yn_told(start)); start -= ALIGNED) {
		if (start == end || memcmp((const void *)start, pushes, sizeof(pushes)))
			continue;
		if (!yn_take_apart(start, end - start, &code)) {
			for (uint32_t i = 0; i < code.n; i++)
				code.line[i] = name.line;
			yn_tell(&code, name.function, name.file, name.line, 8, SAVED);
		}
		return;
	}
}

/* The jump at the end of a block that was told of, once it leads to a block. */
static void tell_rest(const struct yjit_block_version *block)
{
	uint64_t end = (uint64_t)block->end, told;
	uint32_t line;

	if (block->end <= block->start || lasting_end(block) != end || yn_told(end - 1))
		return;
	told = yn_told_end(end - 1, &line);
	if (told <= (uint64_t)block->start || told >= end || yn_take_apart(told, end - told, &code))
		return;
	for (uint32_t i = 0; i < code.n; i++)
		code.line[i] = line;
	yn_tell(&code, name.function, name.file, name.line, SAVED, SAVED);
}

/* ---- what is new --------------------------------------------------------------------- */

/* The method that @block calls where it goes on into @iseq. */
static const rb_callable_method_entry_t *callee_of(const struct yjit_block_version *block, const rb_iseq_t *iseq)
{
	for (int i = 0; i < rb_darray_size(block->dependencies); i++) {
		const rb_callable_method_entry_t *entry =
			(const void *)rb_darray_ref(block->dependencies, i)->callee;

		if (entry && entry->def && entry->def->type == VM_METHOD_TYPE_ISEQ &&
		    entry->def->body.iseq.iseqptr == iseq)
			return entry;
	}
	return NULL;
}

/* @block, and those that were compiled with it: each stands behind the one before. */
static void tell_batch(const struct yn_region *region, const struct yjit_block_version *block,
		       const rb_callable_method_entry_t *entry)
{
	for (int i = 0; i < 64; i++) {
		const struct yn_branch *branch = last_branch(block);
		const struct yjit_block_version *behind;

		if (block->start < block->end && yn_told_from((uint64_t)block->start))
			return;
		tell_block(region, block, entry);
		tell_entry(block);
		behind = branch ? branch->blocks[0] : NULL;
		if (!behind || behind->start != block->end)
			return;
		if (behind->id.iseq != block->id.iseq)
			entry = callee_of(block, behind->id.iseq);
		block = behind;
	}
}

/* The blocks that go on into @block, whose jumps may lead somewhere since. */
static void tell_before(const struct yjit_block_version *block)
{
	int n = rb_darray_size(block->incoming);

	/* It is the last one that was added. */
	for (int i = n > 4 ? n - 4 : 0; i < n; i++) {
		const struct yjit_block_version *from = rb_darray_get(block->incoming, i)->block;

		if (from->start == from->end || !yn_told_from((uint64_t)from->start))
			continue;
		yn_name(from->id.iseq, NULL, &name);
		yn_told_name((uint64_t)from->start, name.function, sizeof(name.function));
		tell_rest(from);
	}
}

static rb_yjit_block_array_array_t blocks_of(const rb_iseq_t *iseq)
{
	if (!imemo_type_p((VALUE)iseq, imemo_iseq) || !iseq->body || !iseq->body->iseq_encoded)
		return NULL;
	if (rb_darray_size(iseq->body->yjit_blocks) != (int)iseq->body->iseq_size)
		return NULL;
	return iseq->body->yjit_blocks;
}

void yn_tell_iseq(const rb_iseq_t *iseq, const rb_callable_method_entry_t *entry)
{
	const rb_yjit_block_array_array_t all = blocks_of(iseq);

	for (int i = 0; all && i < rb_darray_size(all); i++) {
		const rb_yjit_block_array_t versions = rb_darray_get(all, i);

		for (int v = 0; v < rb_darray_size(versions); v++) {
			const struct yjit_block_version *block = rb_darray_get(versions, v);

			if (block->start == block->end || yn_told_from((uint64_t)block->start))
				continue;
			tell_block(yn_region(), block, entry);
			tell_entry(block);
		}
	}
}

static void tell_new(const struct yn_region *region, const rb_control_frame_t *frame)
{
	const rb_callable_method_entry_t *entry;
	rb_yjit_block_array_array_t all;
	rb_yjit_block_array_t versions;
	int64_t idx;

	if (!frame || !frame->iseq || !frame->pc || !VM_FRAME_RUBYFRAME_P(frame))
		return;
	all = blocks_of(frame->iseq);
	idx = frame->pc - frame->iseq->body->iseq_encoded;
	if (!all || idx < 0 || idx >= rb_darray_size(all))
		return;
	entry = rb_vm_frame_method_entry(frame);
	versions = rb_darray_get(all, idx);
	for (int v = 0; v < rb_darray_size(versions); v++) {
		tell_before(rb_darray_get(versions, v));
		tell_batch(region, rb_darray_get(versions, v), entry);
	}
}

void yn_tell_leaving(void)
{
	static const uint8_t pops[] = { 0x5b, 0x41, 0x5c, 0x41, 0x5d, 0xc3 };
	uint64_t start = yn_region()->start;

	if (!yn_told(start) && !memcmp((const void *)start, pops, sizeof(pops)) &&
	    !yn_take_apart(start, sizeof(pops), &code))
		yn_tell(&code, "leave", "", 0, SAVED, SAVED);
}

/* ---- what is no longer what it was --------------------------------------------------- */

static void compare(uint64_t start, const uint8_t first[5])
{
	const uint8_t *now = (const uint8_t *)start;
	int32_t relative;
	uint64_t pc;

	if (now[0] != 0xe9 || !memcmp(now, first, JUMP))
		return;
	memcpy(&relative, now + 1, sizeof(relative));
	/* To its own exit: a block that is no longer valid. Else it is another's jump. */
	if (!yn_is_exit(yn_region(), start + JUMP + (int64_t)relative, &pc))
		yn_untell(start, JUMP);
}

void yn_code_written(const struct yn_region *region, const uint64_t *pages, size_t n_pages, uint64_t page_size)
{
	const rb_execution_context_t *ec = ruby_current_ec;

	/* When objects move, Ruby updates the code that refers to them. */
	if (!ec || rb_during_gc() || !yn_ready())
		return;
	for (size_t i = 0; i < n_pages; i++)
		yn_each_told(pages[i], i == YN_PAGES - 1 ? region->start + region->half : pages[i] + page_size, compare);
	tell_new(region, ec->cfp);
}
