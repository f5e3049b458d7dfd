/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Maps of flows as another layout could have had them: fields in another order and of other sizes, some that
 * we don't have, some of ours missing; flags with other numbers; two hashes in place of four. Nothing runs
 * here.
 */
#include <linux/bpf.h>
#include <linux/types.h>
#include <bpf/bpf_helpers.h>

enum flow_flag {
	FLOW_FLAG_ANSWERED = 1 << 0,
	FLOW_FLAG_ESTABLISHED = 1 << 1,
	FLOW_FLAG_EGRESS_OK = 1 << 2,
	FLOW_FLAG_INGRESS_OK = 1 << 3,
	FLOW_FLAG_OPENER_1 = 1 << 4,
	FLOW_FLAG_MARKED = 1 << 5,
	/* None of ours. */
	FLOW_FLAG_ENCRYPTED = 1 << 6,
};

struct older_end {
	__u16 port;
	__u16 _reserved;
	__u8 address[4];
};

struct older_key {
	__u32 protocol;
	struct older_end end[2];
};

struct older_record {
	__u64 state;
	__u64 last_seen;
	struct older_key key;
	__u32 packets[2];
	__u64 bytes[2];
	__u32 priority;
	__u32 _reserved;
	enum flow_flag _names[0];
};

#define HASH(name, map_type)                                                                                 \
	struct {                                                                                             \
		__uint(type, map_type);                                                                      \
		__uint(max_entries, 1024);                                                                   \
		__type(key, struct older_key);                                                               \
		__type(value, struct older_record);                                                          \
	} name SEC(".maps")

HASH(tortie_new4, BPF_MAP_TYPE_LRU_HASH);
HASH(tortie_flow4_even, BPF_MAP_TYPE_HASH);
HASH(tortie_flow4_odd, BPF_MAP_TYPE_HASH);

char LICENSE[] SEC("license") = "Dual BSD/GPL";
