/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Where filters and programs go on: docs/design/ebpf-net.md. */
#ifndef TORTIE_JUMP_H
#define TORTIE_JUMP_H

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include "consts.h"

/* The programs of the build in force. */
struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, JUMP__COUNT);
	__type(key, enum jump);
	__type(value, __u32);
} tortie_jump SEC(".maps");

#endif
