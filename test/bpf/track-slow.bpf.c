// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * A packet whose flow policy is asked about while another CPU forgets it and makes it anew. What was allowed
 * was allowed to the first one.
 */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include "../../bpf/consts.h"
#define FAMILY 4
#include "../../bpf/track.h"
#undef FAMILY
#include "given-flows.h"

/* A packet of the opener's. What find_flow says of it in the end; or above 100, where it went wrong. */
SEC("tc")
int late_allowance(struct __sk_buff *skb)
{
	struct packet4 *packet = this_packet4();
	const struct flow_record4 *own = given_flow(0), *other = given_flow(1);
	struct flow_tuple4 tuple;

	if (!packet || !own || !other || bpf_map_update_elem(&tortie_flow4a, &own->key, own, BPF_ANY) ||
	    bpf_map_update_elem(&tortie_flow4b, &own->key, own, BPF_ANY) ||
	    bpf_map_update_elem(&tortie_flow4c, &own->key, own, BPF_ANY) ||
	    bpf_map_update_elem(&tortie_flow4d, &own->key, own, BPF_ANY))
		return 101;
	__builtin_memset(packet, 0, sizeof(*packet));
	tuple_between4(&own->key.end[opener_of4(own->state)], &own->key.end[!opener_of4(own->state)],
		       own->key.protocol, &tuple);
	packet->headers.tuple = tuple;
	packet->headers.tcp_flags = TCP_ACK;
	packet->is_out = 1;
	if (find_flow4() != FLOW_USE_JUDGE)
		return 102;
	if (bpf_map_update_elem(&tortie_flow4a, &other->key, other, BPF_ANY) ||
	    bpf_map_update_elem(&tortie_flow4b, &other->key, other, BPF_ANY) ||
	    bpf_map_update_elem(&tortie_flow4c, &other->key, other, BPF_ANY) ||
	    bpf_map_update_elem(&tortie_flow4d, &other->key, other, BPF_ANY))
		return 103;
	packet->task = FLOW_TASK_ALLOW;
	packet->legs = FLOW_FLAG_INGRESS_OK;
	return find_flow4();
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
