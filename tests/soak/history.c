/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A week of churn in minutes: a child emits functions in ustack notes, three lines each,
 * to 4,096 places that it uses again and again; files are followed by their successors.
 * The follower beside it must not grow, and what was stored must keep its name.
 *
 *   history [EMISSIONS [RATE]]    default 50,000,000 at 100,000 a second
 *
 * Every tenth second a line: emissions so far, the memory of this process, the instances
 * of the index (alive and dead), and what is in the kernel's maps. Every second a stack is
 * stored as a probe would, with a frame by instance and one by address, and the name that
 * was there is kept beside it; of the last hundred all must be printed as they were when
 * the child has ended. Exit code 1 if one was not, or if memory grew by more than half
 * after the first tenth. As root.
 */
#define USTACK_NOTES_IMPLEMENTATION
#include "ustack_notes.h"

#include <bpf/bpf.h>
#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>

#include "processes/follow_internal.h"
#include "processes/times.h"
#include "stacks/session.h"

#define PLACES 4096u
#define STORED 100u

struct shared {
	uint64_t at;      /* where the places begin */
	uint64_t emitted;
	bool done;
};

struct stored {
	uint64_t id;
	char name[32];
};

/* The child's own: emission @last is the latest. */
struct emitter {
	uint64_t at, last;
};

static void tell(struct ustack_notes *notes, uint64_t at, uint64_t n, uint32_t flags)
{
	static const struct ustack_notes_line lines[] = {
		{ .line = 1 }, { .offset = 16, .line = 2 }, { .offset = 32, .line = 3 },
	};
	char name[32];
	struct ustack_notes_code c = { .size_of = sizeof(c), .start = at + n % PLACES * 64, .size = 48,
				       .function = name, .file = "soak.src", .lines = lines, .n_lines = 3,
				       .flags = flags };

	snprintf(name, sizeof(name), "function_%llu", (unsigned long long)n);
	ustack_notes_code(notes, &c);
}

/* What is live: the latest of each place. */
static void rundown(void *ctx, struct ustack_notes *notes)
{
	const struct emitter *e = ctx;

	for (uint64_t n = e->last >= PLACES ? e->last - PLACES + 1 : 1; n <= e->last; n++)
		tell(notes, e->at, n, USTACK_NOTES_RUNDOWN);
}

static void emit(struct shared *sh, uint64_t emissions, uint64_t rate)
{
	struct emitter e = { 0 };
	struct ustack_notes_opts o = { .size = sizeof(o), .runtime = "soak", .on = 1, .max_bytes = 16 << 20,
				       .rundown = rundown, .ctx = &e };
	struct ustack_notes *notes;
	uint64_t begin;

	e.at = (uintptr_t)mmap(NULL, PLACES * 64, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (ustack_notes_open(&o, &notes))
		_exit(1);
	__atomic_store_n(&sh->at, e.at, __ATOMIC_RELEASE);
	begin = times_now();
	while (e.last < emissions) {
		if (e.last * 1000000000 / rate > times_now() - begin) {
			usleep(1000);
			continue;
		}
		tell(notes, e.at, ++e.last, 0);
		__atomic_store_n(&sh->emitted, e.last, __ATOMIC_RELEASE);
	}
	__atomic_store_n(&sh->done, true, __ATOMIC_RELEASE);
	pause();
	_exit(0);
}

/* A session that has seen @pid, as if a probe had. */
static struct ustack *watch(pid_t pid, uint64_t *space)
{
	struct ustack_opts opts = { .size = sizeof(opts), .unwind_cache = "" };
	uint32_t tgid = (uint32_t)pid;
	struct ustack *u;
	char err[256];

	*space = USTACK_SPACE(pid, times_now());
	if (ustack_new(&opts, &u, err, sizeof(err)) || ustack_create_maps(u) || ustack_start(u)) {
		fprintf(stderr, "history: no session; as root?\n");
		exit(1);
	}
	bpf_map_update_elem(ustack_map_fd(u, USTACK_MAP_PROCS), &tgid, space, BPF_ANY);
	follow_lock(u->follow);
	follow_space(u->follow, *space);
	follow_unlock(u->follow);
	return u;
}

static long resident_kb(void)
{
	FILE *f = fopen("/proc/self/statm", "r");
	long pages = 0;

	if (f && fscanf(f, "%*s %ld", &pages) != 1)
		pages = 0;
	if (f)
		fclose(f);
	return pages * (sysconf(_SC_PAGESIZE) / 1024);
}

static double cpu_seconds(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec * 1e-9;
}

/* A stack of now, in place of the oldest. */
static void store(struct ustack *u, uint64_t space, uint64_t addr, struct stored *st, uint64_t id)
{
	struct ustack_stack32 stack = { .head = { .space = space, .depth = 2 } };
	const struct index_entry *e;
	struct index_history h;
	struct space *s;

	if (st->id)
		bpf_map_delete_elem(ustack_map_fd(u, USTACK_MAP_STACKS32), &st->id);
	st->id = 0;
	follow_lock(u->follow);
	s = follow_find(u->follow, space);
	/* In the index's time: the follower may be behind. */
	index_history(s->index, &h);
	stack.head.first = stack.head.last = h.latest;
	if (index_at(s->index, addr, stack.head.first, stack.head.last, &e) == INDEX_FOUND) {
		snprintf(st->name, sizeof(st->name), "%.*s", (int)e->name.len, e->name.s);
		stack.token[0] = USTACK_TOKEN(USTACK_TAG_INSTANCE, e->instance);
		stack.token[1] = USTACK_TOKEN(USTACK_TAG_NATIVE, addr + 1);
		if (!bpf_map_update_elem(ustack_map_fd(u, USTACK_MAP_STACKS32), &id, &stack, BPF_ANY))
			st->id = id;
	}
	follow_unlock(u->follow);
}

static void report(struct ustack *u, uint64_t space, uint64_t emitted)
{
	struct index_history h = { 0 };
	struct index_stats ix = { 0 };
	struct maps_stats maps;
	struct space *s;

	follow_lock(u->follow);
	s = follow_find(u->follow, space);
	index_history(s->index, &h);
	index_stats(s->index, &ix);
	maps_stats(u->maps, &maps);
	printf("%10lu functions: %7ld kB resident, index %7lu kB, %6lu alive, %7lu dead; pages %lu, cells %lu; "
	       "cpu %.1f s\n", (unsigned long)emitted, resident_kb(), (unsigned long)ix.bytes / 1024,
	       (unsigned long)h.alive, (unsigned long)h.dead, (unsigned long)maps.pages_used,
	       (unsigned long)maps.cells_used, cpu_seconds());
	follow_unlock(u->follow);
	fflush(stdout);
}

/* How many do not read as they did. */
static unsigned check(struct ustack *u, const struct stored *st)
{
	unsigned wrong = 0, n = 0;

	for (unsigned i = 0; i < STORED; i++) {
		const struct ustack_stack *stack;

		if (!st[i].id || ustack_resolve(u, st[i].id, 0, &stack))
			continue;
		n++;
		for (size_t f = 0; f < stack->n_frames; f++) {
			if (stack->frames[f].type == USTACK_FRAME_JIT && !strcmp(stack->frames[f].function, st[i].name))
				continue;
			wrong++;
			printf("frame %lu of stack %u: %s, %s in place of %s\n", (unsigned long)f, i,
			       stack->frames[f].function ? stack->frames[f].function : "",
			       ustack_reason_text(stack->frames[f].reason), st[i].name);
		}
	}
	printf("%u stored stacks, %u frames that read otherwise than when they were stored\n", n, wrong);
	return n ? wrong : 1;
}

int main(int argc, char **argv)
{
	uint64_t emissions = argc > 1 ? strtoull(argv[1], NULL, 10) : 50000000, space, emitted;
	uint64_t rate = argc > 2 ? strtoull(argv[2], NULL, 10) : 100000;
	long early = 0, most = 0;
	struct stored st[STORED] = { 0 };
	struct shared *sh;
	struct ustack *u;
	unsigned wrong;
	char *losses;
	pid_t pid;

	sh = mmap(NULL, sizeof(*sh), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (!emissions || !rate || sh == MAP_FAILED)
		return 1;
	pid = fork();
	if (!pid)
		emit(sh, emissions, rate);
	while (!__atomic_load_n(&sh->at, __ATOMIC_ACQUIRE))
		usleep(1000);
	u = watch(pid, &space);
	for (uint64_t second = 0; !__atomic_load_n(&sh->done, __ATOMIC_ACQUIRE); second++) {
		sleep(1);
		emitted = __atomic_load_n(&sh->emitted, __ATOMIC_ACQUIRE);
		store(u, space, sh->at + (second * 37 % PLACES) * 64, &st[second % STORED], (second + 100) * 4);
		if (second % 10 == 9)
			report(u, space, emitted);
		if (!early && emitted > emissions / 10)
			early = resident_kb();
		if (resident_kb() > most)
			most = resident_kb();
	}
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	ustack_stop(u);
	wrong = check(u, st);
	losses = ustack_losses(u, true);
	printf("%s\nresident after a tenth %ld kB, at most %ld kB\n", losses ? losses : "", early, most);
	free(losses);
	ustack_free(u);
	return wrong || most > early + early / 2;
}
