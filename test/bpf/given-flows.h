/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#pragma once
/* For programs that show what may happen between two steps of a packet's: its flow, and the one that comes in
 * its place. FAMILY is 4. */

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 2);
	__type(key, __u32);
	__type(value, struct flow_record4);
} given SEC(".maps");

/* The packet's flow (0), or the other one (1). */
static __always_inline const struct flow_record4 *given_flow(__u32 index)
{
	return bpf_map_lookup_elem(&given, &index);
}
