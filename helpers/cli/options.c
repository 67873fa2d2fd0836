/* SPDX-License-Identifier: Apache-2.0 */
/* The options that all verbs have, and the file that their output goes to. */
#include <errno.h>
#include <string.h>

#include "cli/cli.h"

bool common_option(struct common *c, int opt, int *rc)
{
	*rc = EXIT_CLEAN;
	switch (opt) {
	case 'j':
		c->json = true;
		return true;
	case 'o':
		c->output = optarg;
		return true;
	case 'h':
		fputs(c->usage, stdout);
		return false;
	default:
		fprintf(stderr, "Try 'ustack-notes %s --help'.\n", c->verb);
		*rc = EXIT_UNREADABLE;
		return false;
	}
}

bool common_arguments(const struct common *c, int argc, int n)
{
	if (argc - optind == n)
		return true;
	fputs(c->usage, stderr);
	return false;
}

int common_open(struct common *c, const struct input *in)
{
	const char *to = c->output ? c->output : "/proc/self/fd/1";

	c->out = stdout;
	if (in && input_is(in, to)) {
		complain(c->output ? c->output : "standard output", "is what is to be read");
		return EXIT_UNREADABLE;
	}
	if (!c->output)
		return EXIT_CLEAN;
	c->out = fopen(c->output, "we");
	if (c->out)
		return EXIT_CLEAN;
	complain(c->output, strerror(errno));
	return EXIT_UNREADABLE;
}

int common_close(struct common *c, int rc)
{
	int err = 0;

	if (fflush(c->out))
		err = errno;
	if (ferror(c->out) && !err)
		err = EIO;
	if (c->output && fclose(c->out) && !err)
		err = errno;
	if (!err)
		return rc;
	complain(c->output ? c->output : "standard output", strerror(err));
	return EXIT_UNREADABLE;
}
