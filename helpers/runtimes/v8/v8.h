/* SPDX-License-Identifier: Apache-2.0 */
/* V8's dialect of names: node, Chromium, Deno. */
#ifndef USTACK_RUNTIMES_V8_H
#define USTACK_RUNTIMES_V8_H

#include "runtimes/name.h"

/* True, and *out filled in (function may be empty), if V8 wrote @name. False,
 * and *out as it was, if not: then the name stays as written. */
bool v8_name_parse(struct note_str name, struct code_name *out);

#endif
