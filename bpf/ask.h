/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* A question about one leg of a packet's flow, and its answer. For one family (see family.h). */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include "consts.h"
#include "endpoint-maps.h"
#include "classify.h"

#if (FAMILY == 4 && !defined(TORTIE_ASK4_H)) || (FAMILY == 6 && !defined(TORTIE_ASK6_H))
#if FAMILY == 4
#define TORTIE_ASK4_H
#else
#define TORTIE_ASK6_H
#endif

#ifndef TORTIE_ASK_H
#define TORTIE_ASK_H

#define ask OF_FAMILY(ask)
#define answer OF_FAMILY(answer)

#endif

struct ask {
	/* The pod's device, and which unit of its (UNIT_EGRESS, UNIT_INGRESS). 0: only about addresses. */
	__u32 ifindex;
	__u32 kind;
	struct flow_tuple tuple;
	/* From here on the answer. The slot and the unit that judges; 0: there is none. */
	__u32 slot;
	__u32 unit;
	struct decision decision;
	struct address_info source;
	struct address_info destination;
	struct hop source_hop;
	struct hop destination_hop;
};

/* The question, and once the program has run the answer. (Without tortie_: it belongs to no other program.)
 */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct ask);
} OF_FAMILY(question) SEC(".maps");

/* Of an address that changes all the time nothing is said. */
static __always_inline int answer(void)
{
	const struct pod_slot *pod;
	const struct hop *hop;
	const __u64 *named;
	struct ask *ask;
	__u32 first = 0;
	__u64 slot;

	ask = bpf_map_lookup_elem(&OF_FAMILY(question), &first);
	if (!ask)
		return TC_ACT_SHOT;
	named = bpf_map_lookup_elem(&tortie_slots, &ask->ifindex);
	slot = named ? *(const volatile __u64 *)named : 0;
	ask->slot = slot >> 32 == ask->ifindex ? (__u32)slot : 0;
	ask->unit = 0;
	pod = bpf_map_lookup_elem(&tortie_pods, &ask->slot);
	if (ask->slot && pod && pod->ifindex == ask->ifindex)
		ask->unit = *(const volatile __u32 *)&pod
				 ->unit[(ask->kind == UNIT_EGRESS ? UNIT_EGRESS : UNIT_INGRESS) +
					(FAMILY == 6 ? 1 : 0)];
	/* Without bytes it isn't counted. */
	classify(ask->unit, &ask->tuple, 0, &ask->decision);
	find_address(ask->tuple.source, &ask->source);
	find_address(ask->tuple.destination, &ask->destination);
	hop = bpf_map_lookup_elem(&tortie_hops, &ask->source.hop);
	if (hop)
		ask->source_hop = *hop;
	hop = bpf_map_lookup_elem(&tortie_hops, &ask->destination.hop);
	if (hop)
		ask->destination_hop = *hop;
	return TC_ACT_UNSPEC;
}

#endif
