/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * How much of the answered flows' hashes those may take that nobody answers (FLOW_FLAG_ONE_WAY): counted for
 * each opener's address, and all of them together. docs/design/ebpf-flows.md, "One-way flows". For one family
 * (see family.h).
 *
 * Promotions add to `now` and `next`; a round of the sweep begins with 0 in `next`, counts what there is, and
 * makes it `now`. What is forgotten before the next round is counted until then, what comes during a round
 * perhaps twice.
 */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include "consts.h"
#include "flow-maps.h"

#ifndef TORTIE_ONE_WAY_H
#define TORTIE_ONE_WAY_H

#define one_way_owner OF_FAMILY(one_way_owner)
#define one_way_has_place OF_FAMILY(one_way_has_place)
#define note_one_way OF_FAMILY(note_one_way)
#define add_one_way OF_FAMILY(add_one_way)

/* Of all together; those of addresses are behind it. */
#define ONE_WAY_TOTAL 0

/* Elements that such a flow takes: its record, and its pointer if it is translated. */
static __always_inline __u32 one_way_elements(__u64 state)
{
	return state & (FLOW_FLAG_DESTINATION | FLOW_FLAG_SOURCE) ? 2 : 1;
}

#endif

#if (FAMILY == 4 && !defined(TORTIE_ONE_WAY4_H)) || (FAMILY == 6 && !defined(TORTIE_ONE_WAY6_H))
#if FAMILY == 4
#define TORTIE_ONE_WAY4_H
#else
#define TORTIE_ONE_WAY6_H
#endif

/* Whose share it is: by the opener's own address. Two addresses may have one. */
static __always_inline __u32 one_way_owner(const struct flow_record *record, __u64 state)
{
	const struct flow_end *opener = state & FLOW_FLAG_SOURCE     ? &record->source_before
					: state & FLOW_FLAG_OPENER_1 ? &record->key.end[1]
								     : &record->key.end[0];
	__u32 hash = 0;

#pragma unroll
	for (int i = 0; i < ADDRESS_BYTES; i += 4) {
		hash = (hash ^ *(const __u32 *)(opener->address + i)) * 0x9e3779b1;
		hash ^= hash >> 15;
	}
	return 1 + hash * 0x9e3779b1 % ONE_WAY_SHARES;
}

static __always_inline int one_way_has_place(__u32 share)
{
	const struct one_way_share *found = bpf_map_lookup_elem(&OF_FAMILY(tortie_oneway), &share);

	return found && (!found->limit || *(const volatile __u32 *)&found->now < found->limit);
}

/* `is_new`: it comes now; else the sweep has met it. */
static __always_inline void note_one_way(__u32 share, __u32 elements, int is_new)
{
	struct one_way_share *found = bpf_map_lookup_elem(&OF_FAMILY(tortie_oneway), &share);

	if (!found)
		return;
	__sync_fetch_and_add(&found->next, elements);
	if (is_new)
		__sync_fetch_and_add(&found->now, elements);
}

/* Counts a record in its opener's share, and in the total. */
static __always_inline void add_one_way(const struct flow_record *record, __u64 state, int is_new)
{
	__u32 elements = one_way_elements(state);

	note_one_way(one_way_owner(record, state), elements, is_new);
	note_one_way(ONE_WAY_TOTAL, elements, is_new);
}

#endif
