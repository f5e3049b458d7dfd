// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * A sweep that is interrupted between its last look at an element and the deletion. What programs may do
 * meanwhile, it does itself: the flow is forgotten, and another one gets the element.
 */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include "../../bpf/consts.h"
#define FAMILY 4
#include "../../bpf/flow-maps.h"
#undef FAMILY

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct flow_record4);
} given SEC(".maps");

#define SWEEP_PAUSE(map, record)                                                                             \
	do {                                                                                                 \
		if (FAMILY == 4)                                                                             \
			interrupt(map, &target);                                                             \
	} while (0)

struct bpf_map;

/* Another flow, if there is one: once. */
static __attribute__((always_inline)) inline void interrupt(struct bpf_map *map, const void *expired)
{
	struct flow_record4 *other;
	__u32 first = 0;

	other = bpf_map_lookup_elem(&given, &first);
	if (!other || !other->state)
		return;
	bpf_map_delete_elem(map, expired);
	bpf_map_update_elem(map, &other->key, other, BPF_ANY);
	other->state = 0;
}

#include "../../bpf/sweep.bpf.c"
