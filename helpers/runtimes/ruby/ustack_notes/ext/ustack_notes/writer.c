/* SPDX-License-Identifier: Apache-2.0 */
/* The writer of ustack notes, which is all in its header. */
#define USTACK_NOTES_IMPLEMENTATION
#include "ustack_notes.h"
