/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Inside processes/ only: opening what a process may have put in our way.
 */
#ifndef USTACK_PROCESSES_PROCESS_FILES_H
#define USTACK_PROCESSES_PROCESS_FILES_H

#include <stdbool.h>
#include <sys/stat.h>

/* O_PATH of @path with @root_fd for its root. @nofollow: a symlink as the last
 * component is opened itself. fd or negative errno. */
int open_in_root(int root_fd, const char *path, bool nofollow);
/*
 * Open what the O_PATH descriptor @path_fd (stays the caller's) stands for, for
 * reading, and fill *@st. -ELOOP: it is a symlink; -EINVAL: no regular file.
 */
int open_checked(int path_fd, struct stat *st);

#endif
