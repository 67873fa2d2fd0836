/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ustack-notes list: which processes here have notes, of what kind, and in which
 * namespaces. Of the notes only the beginning is read, of mapped files that have
 * no section each is looked at once, so that thousands of processes take a moment.
 */
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/print.h"
#include "runtimes/name.h"

static const char usage[] =
	"Usage: ustack-notes list [OPTION]...\n"
	"Which processes have notes about code that they compile: of what kind, in which\n"
	"file, how many notes (where the file says so) and bytes, and in which namespaces\n"
	"(`-`: in those of this program).\n"
	"\n"
	"  -a, --all          also known runtimes that write no notes, and how to make them\n"
	COMMON_HELP
	"\n"
	"Other users' processes are seen by root only.\n"
	"\n"
	"Exit codes: 0, or 2 cannot read.\n";

struct list {
	struct common common;
	bool all;
	uint64_t own_pid_ns, own_mnt_ns;
	uint64_t hidden; /* processes that we may not look at */
	bool headed;
	struct no_sections none;
};

struct row {
	const struct process *p;
	uint64_t pid_ns, mnt_ns;
};

/* The number in /proc/PID/ns/NAME; 0: it may not be seen. */
static uint64_t namespace_of(int pid_fd, const char *name)
{
	char path[32], link[64];
	const char *number;
	ssize_t n;

	snprintf(path, sizeof(path), "ns/%s", name);
	n = readlinkat(pid_fd, path, link, sizeof(link) - 1);
	if (n <= 0)
		return 0;
	link[n] = '\0';
	number = strchr(link, '[');
	return number ? strtoull(number + 1, NULL, 10) : 0;
}

static void text_namespaces(char *text, size_t size, const struct list *l, const struct row *row)
{
	const bool own_pid = row->pid_ns == l->own_pid_ns, own_mnt = row->mnt_ns == l->own_mnt_ns;

	snprintf(text, size, "-");
	if (!own_pid && !own_mnt)
		snprintf(text, size, "pid:%" PRIu64 ",mnt:%" PRIu64, row->pid_ns, row->mnt_ns);
	else if (!own_pid)
		snprintf(text, size, "pid:%" PRIu64, row->pid_ns);
	else if (!own_mnt)
		snprintf(text, size, "mnt:%" PRIu64, row->mnt_ns);
}

/* ---- a row ---------------------------------------------------------------------- */

/* A name that fills its column, however long it is when it is escaped. */
static void text_comm(FILE *f, const char *comm)
{
	char *text = NULL;
	size_t size = 0;
	FILE *m = open_memstream(&text, &size);

	if (!m)
		return;
	text_str(m, note_str(comm));
	if (fclose(m) == 0)
		fprintf(f, "%-15s ", text);
	free(text);
}

static void text_head(struct list *l, const struct row *row, const char *kind)
{
	FILE *f = l->common.out;

	if (!l->headed)
		fprintf(f, "%7s %-15s %-12s %9s %10s %-4s %s\n", "PID", "COMM", "KIND", "NOTES", "BYTES", "NS",
			"FILE");
	l->headed = true;
	fprintf(f, "%7d ", (int)row->p->pid);
	text_comm(f, row->p->comm);
	fprintf(f, "%-12s ", kind);
}

static void json_head(struct list *l, const struct row *row, const char *kind)
{
	FILE *f = l->common.out;

	fprintf(f, "{\"type\":\"process\",\"pid\":%d,\"ns_pid\":%d", (int)row->p->pid, (int)row->p->ns_pid);
	json_text(f, "comm", row->p->comm);
	json_text(f, "exe", row->p->exe);
	fprintf(f, ",\"pid_namespace\":%" PRIu64 ",\"mount_namespace\":%" PRIu64 ",\"own_namespaces\":%s",
		row->pid_ns, row->mnt_ns,
		row->pid_ns == l->own_pid_ns && row->mnt_ns == l->own_mnt_ns ? "true" : "false");
	json_text(f, "kind", kind);
}

static const char *kind_name(const struct note_file *f)
{
	switch (f->kind) {
	case NOTE_FILE_USTACK:
		return "ustack notes";
	case NOTE_FILE_JITDUMP:
		return "jitdump";
	case NOTE_FILE_PERFMAP:
		return "perf map";
	case NOTE_FILE_SECTION:
		return "section";
	}
	return "";
}

/* The other process that wrote the file, a parent; 0: it is the process's own. */
static uint32_t writer_of(const struct process *p, const struct note_file *f)
{
	uint32_t pid = f->reader ? note_reader_pid(f->reader) : 0;

	return pid == (uint32_t)p->ns_pid || pid == (uint32_t)p->pid ? 0 : pid;
}

static void text_row(struct list *l, const struct row *row, const struct note_file *f,
		     const struct note_file_info *info)
{
	FILE *out = l->common.out;
	char ns[64];

	text_head(l, row, kind_name(f));
	if (f->kind == NOTE_FILE_USTACK && f->reader)
		fprintf(out, "%9" PRIu64 " ", info->published);
	else
		fprintf(out, "%9s ", "-");
	text_namespaces(ns, sizeof(ns), l, row);
	fprintf(out, "%10" PRIu64 " %-4s ", f->size, ns);
	text_str(out, note_str(f->path));
	if (writer_of(row->p, f))
		fprintf(out, " (of process %" PRIu32 ")", writer_of(row->p, f));
	if (!f->reader) {
		fputs(" (refused: ", out);
		text_str(out, note_str(f->why));
		fputc(')', out);
	}
	fputc('\n', out);
}

static void json_row(struct list *l, const struct row *row, const struct note_file *f,
		     const struct note_file_info *info)
{
	FILE *out = l->common.out;

	json_head(l, row, kind_name(f));
	json_text(out, "file", f->path);
	fprintf(out, ",\"bytes\":%" PRIu64, f->size);
	if (f->kind == NOTE_FILE_USTACK && f->reader) {
		fprintf(out, ",\"notes\":%" PRIu64 ",\"lost\":%" PRIu64, info->published, info->lost);
		json_text(out, "runtime", info->runtime);
		json_text(out, "runtime_version", info->runtime_version);
	}
	if (writer_of(row->p, f))
		fprintf(out, ",\"writer\":%" PRIu32, writer_of(row->p, f));
	if (!f->reader)
		json_text(out, "refused", f->why);
	fputs("}\n", out);
}

/* A runtime that is known, and has no notes. */
static void none_row(struct list *l, const struct row *row)
{
	char text[512], ns[64];

	no_notes_text(row->p, text, sizeof(text));
	if (l->common.json) {
		json_head(l, row, "none");
		json_text(l->common.out, "hint", text);
		fputs("}\n", l->common.out);
		return;
	}
	text_head(l, row, "none");
	text_namespaces(ns, sizeof(ns), l, row);
	fprintf(l->common.out, "%9s %10s %-4s %s\n", "-", "-", ns, text);
}

/* ---- processes ------------------------------------------------------------------- */

/* Notes of a section are of a file; they do not make a runtime one that writes notes. */
static bool has_own_notes(const struct note_files *files)
{
	for (size_t i = 0; i < files->n; i++)
		if (files->files[i].kind != NOTE_FILE_SECTION)
			return true;
	return false;
}

static int list_process(struct list *l, pid_t pid)
{
	struct note_file_info info = { 0 };
	struct process *p;
	struct note_files files;
	struct row row;
	int rc = process_open(pid, &p);

	if (rc) {
		l->hidden += rc == -EACCES || rc == -EPERM;
		return rc == -ENOMEM ? rc : 0;
	}
	if (!p->n_maps) { /* a kernel thread, or one that is ending */
		process_free(p);
		return 0;
	}
	row = (struct row){ p, namespace_of(p->pid_fd, "pid"), namespace_of(p->pid_fd, "mnt") };
	rc = note_files_find(p, &l->none, &files);
	for (size_t i = 0; !rc && i < files.n; i++) {
		if (files.files[i].reader)
			note_reader_info(files.files[i].reader, &info);
		if (l->common.json)
			json_row(l, &row, &files.files[i], &info);
		else
			text_row(l, &row, &files.files[i], &info);
	}
	if (!rc && l->all && !has_own_notes(&files) && runtime_hint(base_name(p->exe)))
		none_row(l, &row);
	note_files_free(&files);
	process_free(p);
	return rc;
}

static int list_all(struct list *l)
{
	DIR *proc = opendir("/proc");
	struct dirent *e;
	int rc = 0;

	if (!proc) {
		complain("/proc", strerror(errno));
		return EXIT_UNREADABLE;
	}
	while (!rc && (e = readdir(proc))) {
		pid_t pid = isdigit((unsigned char)e->d_name[0]) ? (pid_t)strtol(e->d_name, NULL, 10) : 0;

		if (pid > 0 && pid != getpid())
			rc = list_process(l, pid);
		if (ferror(l->common.out))
			break;
	}
	closedir(proc);
	if (rc)
		complain("/proc", strerror(-rc));
	else if (l->hidden)
		fprintf(stderr, "ustack-notes: %" PRIu64 " process%s could not be looked at%s\n", l->hidden,
			l->hidden == 1 ? "" : "es", geteuid() ? ": run it as root" : "");
	return rc ? EXIT_UNREADABLE : EXIT_CLEAN;
}

int verb_list(int argc, char **argv)
{
	static const struct option options[] = {
		{ "all", no_argument, NULL, 'a' },
		COMMON_OPTIONS,
	};
	struct list *l = calloc(1, sizeof(*l));
	int opt, rc, self;

	if (!l)
		return EXIT_UNREADABLE;
	l->common = (struct common){ .verb = "list", .usage = usage };
	while ((opt = getopt_long(argc, argv, "a" COMMON_LETTERS, options, NULL)) != -1) {
		if (opt == 'a')
			l->all = true;
		else if (!common_option(&l->common, opt, &rc))
			goto out;
	}
	rc = EXIT_UNREADABLE;
	if (!common_arguments(&l->common, argc, 0))
		goto out;
	self = open("/proc/self", O_PATH | O_DIRECTORY | O_CLOEXEC);
	l->own_pid_ns = namespace_of(self, "pid");
	l->own_mnt_ns = namespace_of(self, "mnt");
	if (self >= 0)
		close(self);
	rc = common_open(&l->common, NULL);
	if (!rc)
		rc = common_close(&l->common, list_all(l));
out:
	free(l);
	return rc;
}
