// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * The filters on the host's end of a pod's veth: what a pod sends arrives at clsact's ingress there, what it
 * gets leaves through egress. They drop everything until the agent announces the device, and else go on
 * with whatever tortie_jump has: a filter stays where it is while configuration and builds come and go.
 */
#include "consts.h"
#include "maps.h"
#include "counters.h"

/* The programs of the build in force. */
struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, JUMP__COUNT);
	__type(key, enum jump);
	__type(value, __u32);
} tortie_jump SEC(".maps");

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

char LICENSE[] SEC("license") = "Dual BSD/GPL";
