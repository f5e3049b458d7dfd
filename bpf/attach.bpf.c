// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * The filters. First those on the host's end of a pod's veth: what a pod sends arrives at clsact's ingress
 * there, what it gets leaves through egress. They drop everything until the agent announces the device, and
 * else go on with whatever tortie_jump has: a filter stays where it is while configuration and builds come
 * and go.
 */
#include "consts.h"
#include "maps.h"
#include "counters.h"
#include "jump.h"

/* The program jumped to counts the packet. */
static __always_inline int go_on(struct __sk_buff *skb, enum direction direction, enum jump next)
{
	if (!device_announced(skb->ifindex))
		return conclude(skb, direction, VERDICT_NOT_ANNOUNCED);
	bpf_tail_call(skb, &tortie_jump, next);
	return conclude(skb, direction, VERDICT_NOT_LOADED);
}

SEC("tc")
int tortie_from_pod(struct __sk_buff *skb)
{
	return go_on(skb, DIRECTION_FROM_POD, JUMP_POD_OUT);
}

SEC("tc")
int tortie_to_pod(struct __sk_buff *skb)
{
	return go_on(skb, DIRECTION_TO_POD, JUMP_POD_IN);
}

/*
 * On devices with a host endpoint, and those by which the node forwards what came in by one. Nothing is said
 * of a device until the agent does (tortie_hslots), so what isn't loaded yet lets pass: a node that nobody
 * can reach can't be mended either.
 */
SEC("tc")
int tortie_from_net(struct __sk_buff *skb)
{
	/* Host endpoints' program goes on with the uplinks'. */
	bpf_tail_call(skb, &tortie_jump, JUMP_HOST_IN);
	bpf_tail_call(skb, &tortie_jump, JUMP_NET_IN);
	return TC_ACT_UNSPEC;
}

SEC("tc")
int tortie_to_net(struct __sk_buff *skb)
{
	/* The uplinks' program goes on with host endpoints', which judge what is translated. */
	bpf_tail_call(skb, &tortie_jump, JUMP_NET_OUT);
	bpf_tail_call(skb, &tortie_jump, JUMP_HOST_OUT);
	return TC_ACT_UNSPEC;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
