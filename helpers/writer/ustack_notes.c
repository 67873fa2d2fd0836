/* SPDX-License-Identifier: Apache-2.0 */
/*
 * libustack-notes: the header's functions as a library, for languages that call C
 * but don't compile it.
 */
#define USTACK_NOTES_IMPLEMENTATION
#include "ustack_notes.h"
