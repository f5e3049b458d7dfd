// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Expires flows: one call looks at every element of one hash. What is expired is marked; what still is at the
 * next sweep is deleted, so that a packet in between saves its flow. Likewise a pointer whose record is gone,
 * at which not every sweep looks.
 * Elements of the LRU hashes aren't swept.
 */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include "sweep-context.h"

#define FAMILY 4
#include "sweep.h"
#undef FAMILY
#define FAMILY 6
#include "sweep.h"
#undef FAMILY

/* 0, or -1 when there is no such hash. */
SEC("syscall")
int tortie_sweep(struct sweep_context *context)
{
	/* On the stack: what a callback gets may not point into the program's context. */
	struct sweep_context sweep = *context;
	long visited = -1;

	if (sweep.family == FAMILY_IPV4)
		visited = sweep_shard4(sweep.shard, &sweep);
	else if (sweep.family == FAMILY_IPV6)
		visited = sweep_shard6(sweep.shard, &sweep);
	if (visited < 0)
		return -1;
	context->counts = sweep.counts;
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
