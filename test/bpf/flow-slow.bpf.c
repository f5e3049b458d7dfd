// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * A packet that is interrupted between reading its flow's record and writing to it. What another CPU may do
 * meanwhile, the program does itself: the record goes, and another flow's gets its element.
 */
#define FAMILY 4
#include "../../bpf/flow.h"
#undef FAMILY
#include "given-flows.h"

/* A RST that comes late. 0: it met the element of the other flow. */
SEC("tc")
int late_reset(struct __sk_buff *skb)
{
	const struct flow_record4 *own = given_flow(0), *other = given_flow(1);
	struct flow_record4 *element, copy;

	if (!own || !other || bpf_map_update_elem(&tortie_flow4a, &own->key, own, BPF_ANY))
		return 1;
	element = bpf_map_lookup_elem(&tortie_flow4a, &own->key);
	if (!element || !read_flow4(element, &own->key, &copy))
		return 2;
	if (bpf_map_delete_elem(&tortie_flow4a, &own->key) ||
	    bpf_map_update_elem(&tortie_flow4a, &other->key, other, BPF_ANY))
		return 3;
	change_state(&element->state, copy.state, flags_of_packet(copy.state, 1, PROTOCOL_TCP, TCP_RST), 0);
	/* Not this flow's any more, and read as none. */
	if (read_flow4(element, &own->key, &copy))
		return 4;
	return bpf_map_lookup_elem(&tortie_flow4a, &other->key) == element ? 0 : 5;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
