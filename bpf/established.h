/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The short way for nearly all packets: TCP and UDP of flows that are known, judged, answered and not
 * translated, and by which nothing changes but counts. docs/design/ebpf-flows.md, "The short way". For one
 * family (see family.h).
 *
 * Each function either does all that the long way (endpoint.h) would do with the packet, or nothing at all,
 * and says GO_ON. It never drops: whatever is unusual goes on. So nothing here has to be told, refused or
 * explained; and what it lets pass must be less than what the long way would.
 */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>
#include "consts.h"
#include "maps.h"
#include "counters.h"
#include "parse.h"
#include "endpoint-maps.h"
#include "packet.h"
#include "icmp.h"
#include "track.h"
#include "judge.h"
#include "rewrite.h"
#include "pod-out.h"
#include "known.h"

#if (FAMILY == 4 && !defined(TORTIE_ESTABLISHED4_H)) || (FAMILY == 6 && !defined(TORTIE_ESTABLISHED6_H))
#if FAMILY == 4
#define TORTIE_ESTABLISHED4_H
#else
#define TORTIE_ESTABLISHED6_H
#endif

#ifndef TORTIE_ESTABLISHED_H
#define TORTIE_ESTABLISHED_H

#define known_out OF_FAMILY(known_out)
#define known_in OF_FAMILY(known_in)

#endif

/* A packet that a pod sends: what becomes of it, for tc, or GO_ON. */
__noinline int known_out(struct __sk_buff *skb)
{
	const __u64 both = FLOW_FLAG_EGRESS_OK | FLOW_FLAG_INGRESS_OK;
	struct known_packet known;
	const struct pod_slot *own, *to;
	__u32 mtu;

	if (skb->pkt_type != PACKET_HOST || !read_known(skb, &known) || !find_known(&known))
		return GO_ON;
	/* The device is the source's. */
	own = pod_at(&known, known.sender);
	if (!own || own->ifindex != skb->ifindex)
		return GO_ON;
	if (known.state & FLOW_FLAG_VIA_STACK) {
		if (!(known.state & (known.from_opener ? FLOW_FLAG_EGRESS_OK : FLOW_FLAG_INGRESS_OK)))
			return GO_ON;
		count_known(&known, 1);
		count_on(skb->ifindex, known.length, DIRECTION_FROM_POD, VERDICT_PASSED);
		return to_stack(skb);
	}
	if ((known.state & both) != both || known.hops <= 1)
		return GO_ON;
	to = pod_at(&known, !known.sender);
	if (!to || !device_announced(to->ifindex) || !fits_device(skb, to->ifindex, &mtu))
		return GO_ON;
	if (forward_known(skb, &known, to) != VERDICT_PASSED)
		return conclude(skb, DIRECTION_FROM_POD, VERDICT_REWRITE);
	count_known(&known, 1);
	count_on(skb->ifindex, known.length, DIRECTION_FROM_POD, VERDICT_PASSED);
	count_on(to->ifindex, known.length, DIRECTION_TO_POD, VERDICT_PASSED);
	/* Before 6.12 nothing takes the mark off on the way into the pod. */
	skb->mark = 0;
	return bpf_redirect_peer(to->ifindex, 0);
}

/* A packet that the stack gives to a pod. */
__noinline int known_in(struct __sk_buff *skb)
{
	struct known_packet known;
	__u64 needed, before;

	if (!read_known(skb, &known) || !find_known(&known))
		return GO_ON;
	needed = known.from_opener ? FLOW_FLAG_INGRESS_OK : FLOW_FLAG_EGRESS_OK;
	before = known.from_opener ? FLOW_FLAG_EGRESS_OK : FLOW_FLAG_INGRESS_OK;
	if (!(known.state & needed))
		return GO_ON;
	/* The sender's program has counted it, if it is one of ours. */
	count_known(&known, !(known.state & before));
	count_on(skb->ifindex, known.length, DIRECTION_TO_POD, VERDICT_PASSED);
	return TC_ACT_UNSPEC;
}

#endif
