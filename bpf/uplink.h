/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What programs give to an uplink as if it had come by it: docs/design/ebpf-net.md. */
#ifndef TORTIE_UPLINK_H
#define TORTIE_UPLINK_H

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include "consts.h"
#include "maps.h"

/*
 * skb->tc_index of what a pod's program sends by an uplink past the stack. The stack, which gets it with
 * another one, leaves it alone.
 */
#define PAST_STACK 0x746f

/*
 * The mark of what programs give to an uplink as if it had come by it: all of ours at once, which nothing
 * else has, since who sets one of them takes others off. 0: there are no such bits, and nothing can be told.
 */
static __always_inline __u32 given_mark(void)
{
	return pod_config.mark_seen | pod_config.mark_host | pod_config.mark_not_local |
	       pod_config.mark_untracked | pod_config.mark_pre_accepted;
}

/* Whether the packet is one of those; its mark is taken off, and it is the stack's. */
static __always_inline int was_given(struct __sk_buff *skb)
{
	__u32 mark = given_mark();

	if (!mark || (skb->mark & mark) != mark)
		return 0;
	skb->mark &= ~mark;
	return 1;
}

/*
 * Gives a packet to a device of the node as if it had come by it: the stack's filter of reverse paths sees it
 * where it expects its source. `mac` is the device's: for both ends, by which XDP, which sees no marks, knows
 * the frame. Returns tc's action.
 */
static __always_inline int give_to_uplink(struct __sk_buff *skb, __u32 ifindex, const __u8 mac[6])
{
	if (bpf_skb_store_bytes(skb, 0, mac, 6, 0) || bpf_skb_store_bytes(skb, 6, mac, 6, 0))
		return TC_ACT_SHOT;
	skb->mark |= given_mark();
	return bpf_redirect(ifindex, BPF_F_INGRESS);
}

#endif
