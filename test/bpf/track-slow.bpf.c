// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * A packet whose flow another CPU forgets and makes anew: while policy is asked, whose answer is meant for
 * the first one; between the pointer and its record.
 */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include "../../bpf/consts.h"
#define FAMILY 4
#include "../../bpf/flow-maps.h"
#include "given-flows.h"

/* Puts it into all hashes: 0, or an error. */
static __always_inline int put_everywhere(const struct flow_record4 *element)
{
	return bpf_map_update_elem(&tortie_flow4a, &element->key, element, BPF_ANY) ||
	       bpf_map_update_elem(&tortie_flow4b, &element->key, element, BPF_ANY) ||
	       bpf_map_update_elem(&tortie_flow4c, &element->key, element, BPF_ANY) ||
	       bpf_map_update_elem(&tortie_flow4d, &element->key, element, BPF_ANY);
}

#define POINTER_PAUSE(key)                                                                                   \
	do {                                                                                                 \
		const struct flow_record4 *next = given_flow(1);                                             \
                                                                                                             \
		if (next)                                                                                    \
			put_everywhere(next);                                                                \
	} while (0)
#include "../../bpf/track.h"
#undef FAMILY

/* A packet of the opener's. What find_flow says of it in the end; or above 100, where it went wrong. */
SEC("tc")
int late_allowance(struct __sk_buff *skb)
{
	struct packet4 *packet = this_packet4();
	const struct flow_record4 *own = given_flow(0), *other = given_flow(1);
	struct flow_tuple4 tuple;

	if (!packet || !own || !other || put_everywhere(own))
		return 101;
	__builtin_memset(packet, 0, sizeof(*packet));
	tuple_between4(&own->key.end[opener_of4(own->state)], &own->key.end[!opener_of4(own->state)],
		       own->key.protocol, &tuple);
	packet->headers.tuple = tuple;
	packet->headers.tcp_flags = TCP_ACK;
	packet->is_out = 1;
	if (find_flow4() != FLOW_USE_JUDGE)
		return 102;
	if (put_everywhere(other))
		return 103;
	packet->task = FLOW_TASK_ALLOW;
	packet->legs = FLOW_FLAG_INGRESS_OK;
	return find_flow4();
}

/* A packet of the opener's, whose flow is translated. What find_flow says of it. */
SEC("tc")
int late_pointer(struct __sk_buff *skb)
{
	struct packet4 *packet = this_packet4();
	const struct flow_record4 *own = given_flow(0);
	struct flow_tuple4 tuple;

	if (!packet || !own || put_everywhere(own))
		return 101;
	__builtin_memset(packet, 0, sizeof(*packet));
	tuple_between4(&own->key.end[0], &own->key.end[1], own->key.protocol, &tuple);
	packet->headers.tuple = tuple;
	packet->headers.tcp_flags = TCP_ACK;
	packet->is_out = 1;
	return find_flow4();
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
