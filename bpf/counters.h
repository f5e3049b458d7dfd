/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Every packet is counted once: per device, direction and verdict, on the CPU that judged it. */
#ifndef TORTIE_COUNTERS_H
#define TORTIE_COUNTERS_H

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include "consts.h"

struct counter {
	__u64 packets;
	/* With the Ethernet header; a GSO packet counts once, as it does in the device's own statistics. */
	__u64 bytes;
};

/* One device's counters: one lookup finds all of them. */
struct device_counters {
	struct counter by[DIRECTION__COUNT][VERDICT_SLOTS];
};

/* Not preallocated: 1 KiB per CPU is paid for devices that exist, not for those that could. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 4096);
	__type(key, __u32);
	__type(value, struct device_counters);
} tortie_counters SEC(".maps");

/* A new record's content: too large for the stack, where it would also have to be cleared each time. */
static const struct device_counters no_counters;

/*
 * Counts. The agent makes the record before it announces a device, so an announced one always has it; before
 * that the first packet makes it, and if the map is full then the drop stays uncounted, but remains a drop.
 */
static __always_inline void count_on(__u32 ifindex, __u32 bytes, enum direction direction,
				     enum verdict verdict)
{
	struct device_counters *counters = bpf_map_lookup_elem(&tortie_counters, &ifindex);

	if (!counters) {
		bpf_map_update_elem(&tortie_counters, &ifindex, &no_counters, BPF_NOEXIST);
		counters = bpf_map_lookup_elem(&tortie_counters, &ifindex);
		if (!counters)
			return;
	}
	if (direction < DIRECTION__COUNT && verdict < VERDICT_SLOTS) {
		counters->by[direction][verdict].packets += 1;
		counters->by[direction][verdict].bytes += bytes;
	}
}

/* Counts the verdict and turns it into tc's action. Not inlined: a function's parameters are what puts enums
 * into BTF. */
static __noinline __attribute__((unused)) int conclude(struct __sk_buff *skb, enum direction direction,
						       enum verdict verdict)
{
	count_on(skb->ifindex, skb->len, direction, verdict);
	/* UNSPEC, not OK: OK would end classification, and other people's filters on the device would never
	 * run. */
	return verdict == VERDICT_PASSED ? TC_ACT_UNSPEC : TC_ACT_SHOT;
}

#endif
