/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ustack-notes: look at what runtimes write about their code. A verb, its
 * options, and what to read.
 */
#include <stdio.h>
#include <string.h>

#include "cli/cli.h"
#include "ustack.h"

static const char usage[] =
	"Usage: ustack-notes VERB [OPTION]... FILE|PID\n"
	"       ustack-notes list [OPTION]...\n"
	"Look at the notes that a runtime writes about the code it compiles: ustack notes,\n"
	"perf maps and jitdumps. FILE is told apart by its content; a number is a process,\n"
	"whose notes are looked for (a file of such a name is ./NUMBER).\n"
	"\n"
	"Verbs:\n"
	"  list     which processes have notes\n"
	"  dump     print every note\n"
	"  check    print every problem\n"
	"  stat     what is in them, in numbers\n"
	"  follow   print notes as they come\n"
	"  convert  write them in another format\n"
	"\n"
	"  -h, --help     print this; after a verb: its own help\n"
	"  -V, --version  print the version\n"
	"\n"
	"Exit codes: 0 clean, 1 findings, 2 cannot read or wrong usage.\n";

static const struct {
	const char *name;
	int (*run)(int argc, char **argv);
} verbs[] = {
	{ "list", verb_list },
	{ "dump", verb_dump },
	{ "check", verb_check },
	{ "stat", verb_stat },
	{ "follow", verb_follow },
	{ "convert", verb_convert },
};

int main(int argc, char **argv)
{
	static char self[] = "ustack-notes"; /* for getopt's messages */
	const char *arg = argc > 1 ? argv[1] : NULL;

	if (!arg) {
		fputs(usage, stderr);
		return EXIT_UNREADABLE;
	}
	if (!strcmp(arg, "-h") || !strcmp(arg, "--help")) {
		fputs(usage, stdout);
		return EXIT_CLEAN;
	}
	if (!strcmp(arg, "-V") || !strcmp(arg, "--version")) {
		puts("ustack-notes " USTACK_VERSION);
		return EXIT_CLEAN;
	}
	for (size_t i = 0; i < sizeof(verbs) / sizeof(verbs[0]); i++)
		if (!strcmp(arg, verbs[i].name)) {
			argv[1] = self;
			return verbs[i].run(argc - 1, argv + 1);
		}
	complain(arg, "no such verb (list, dump, check, stat, follow, convert)");
	return EXIT_UNREADABLE;
}
