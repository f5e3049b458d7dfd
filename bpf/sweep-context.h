/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What the agent says to the sweep, and what it hears from it. */
#ifndef TORTIE_SWEEP_CONTEXT_H
#define TORTIE_SWEEP_CONTEXT_H

#include <linux/types.h>
#include "consts.h"

/* How long a flow lives without a packet, in ns. */
struct sweep_timeouts {
	/* Whatever its state, since it was made. */
	__u64 creation;
	__u64 tcp_syn_sent;
	__u64 tcp_established;
	__u64 tcp_fins_seen;
	__u64 tcp_reset_seen;
	__u64 udp;
	__u64 icmp;
	__u64 generic;
};

/* What was met in the hash. */
struct sweep_counts {
	/* All elements. */
	__u64 visited;
	/* Of them pointers. */
	__u64 pointers;
	__u64 marked;
	/* Records, by what they were. */
	__u64 deleted_tcp;
	__u64 deleted_udp;
	__u64 deleted_icmp;
	__u64 deleted_other;
	__u64 deleted_pointers;
};

/* Of the pointers a round looks at one in so many: those whose cookies, but for the lowest bit, which
 * programs always set, have the round as remainder. */
#define SWEEP_POINTER_PARTS 4

/* The argument of the program. */
struct sweep_context {
	enum family family;
	/* 0 to FLOW_SHARDS - 1 */
	__u32 shard;
	/* Counts up from one round of all hashes to the next. */
	__u32 round;
	__u32 _reserved;
	/* CLOCK_MONOTONIC, ns */
	__u64 now;
	struct sweep_timeouts timeouts;
	/* Out; zero before. */
	struct sweep_counts counts;
};

#endif
