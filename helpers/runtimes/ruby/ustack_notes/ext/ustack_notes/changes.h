/* SPDX-License-Identifier: Apache-2.0 */
#ifndef YN_CHANGES_H
#define YN_CHANGES_H

#include "internals.h"

/* Tell of all blocks of @iseq. @entry: its method, as far as is known; NULL. */
void yn_tell_iseq(const rb_iseq_t *iseq, const rb_callable_method_entry_t *entry);

#endif
