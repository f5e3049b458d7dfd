/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The short way for nearly all packets at an uplink: as established.h at a pod's device, and for the node's
 * own, of which only few are anybody's here. For one family (see family.h).
 */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include "consts.h"
#include "maps.h"
#include "counters.h"
#include "known.h"
#include "net.h"

#if (FAMILY == 4 && !defined(TORTIE_ESTABLISHED_NET4_H)) ||                                                  \
    (FAMILY == 6 && !defined(TORTIE_ESTABLISHED_NET6_H))
#if FAMILY == 4
#define TORTIE_ESTABLISHED_NET4_H
#else
#define TORTIE_ESTABLISHED_NET6_H
#endif

#ifndef TORTIE_ESTABLISHED_NET_H
#define TORTIE_ESTABLISHED_NET_H

#define known_net_in OF_FAMILY(known_net_in)
#define known_net_out OF_FAMILY(known_net_out)

/* No action of tc, as GO_ON: the packet is nobody's here. */
#define NOT_OURS (-3)

#endif

/* A packet that comes by an uplink (`shared`: is_shared): what becomes of it, for tc, NOT_OURS or GO_ON. */
__noinline int known_net_in(struct __sk_buff *skb, __u32 shared)
{
	struct known_packet known;
	const struct pod_slot *to;
	__u64 needed;

	if (is_untracked(skb) || !read_known(skb, &known))
		return GO_ON;
	if (!find_known(&known)) {
		/* The opener's first word to the answer isn't known either, but its flow is. */
		return known.protocol != PROTOCOL_TCP || is_heard_of(&known.key) ? GO_ON : NOT_OURS;
	}
	if (!(known.state & FLOW_FLAG_BY_NET))
		return NOT_OURS;
	if (shared)
		return GO_ON;
	needed = known.from_opener ? FLOW_FLAG_INGRESS_OK : FLOW_FLAG_EGRESS_OK;
	if (!(known.state & needed) || known.hops <= 1)
		return GO_ON;
	to = pod_at(&known, !known.sender);
	if (!to || !device_announced(to->ifindex) || !fits_known(skb, &known, to->ifindex))
		return GO_ON;
	count_known(&known, 1);
	if (forward_known(skb, &known, to) != VERDICT_PASSED) {
		count_on(to->ifindex, known.length, DIRECTION_TO_POD, VERDICT_REWRITE);
		return TC_ACT_SHOT;
	}
	count_on(to->ifindex, known.length, DIRECTION_TO_POD, VERDICT_PASSED);
	return redirect_into_pod(skb, to->ifindex);
}

/* A packet of the node's own that leaves by an uplink: NOT_OURS or GO_ON. */
__noinline int known_net_out(struct __sk_buff *skb)
{
	struct known_packet known;
	__u64 state;

	if (!read_known(skb, &known))
		return GO_ON;
	known.element = answered_element(&known.key);
	if (!known.element)
		return known.protocol == PROTOCOL_TCP ? NOT_OURS : GO_ON;
	state = *(const volatile __u64 *)&known.element->state;
	order_reads();
	if (__builtin_memcmp(&known.element->key, &known.key, sizeof(known.key)))
		return GO_ON;
	return state & (FLOW_FLAG_POINTER | FLOW_FLAG_SOURCE) ? GO_ON : NOT_OURS;
}

#endif
