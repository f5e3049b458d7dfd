/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The IP packets that the stack gives to a pod: docs/design/ebpf-flows.md. For one family (see family.h).
 *
 *	parse - fragment - [ICMP error: related?] - record - [new: policy, record]
 */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include "consts.h"
#include "maps.h"
#include "packet.h"
#include "icmp.h"
#include "track.h"
#include "judge.h"
#include "fragment.h"
#include "rewrite.h"
#include "forward.h"
#include "endpoint.h"

#if (FAMILY == 4 && !defined(TORTIE_POD_IN4_H)) || (FAMILY == 6 && !defined(TORTIE_POD_IN6_H))
#if FAMILY == 4
#define TORTIE_POD_IN4_H
#else
#define TORTIE_POD_IN6_H
#endif

#ifndef TORTIE_POD_IN_H
#define TORTIE_POD_IN_H

#define judge_in OF_FAMILY(judge_in)
#define flow_in OF_FAMILY(flow_in)
#define packet_in OF_FAMILY(packet_in)
#define admit_in OF_FAMILY(admit_in)

#endif

/* The receiver's leg. What the node itself sends is not judged. */
static __always_inline enum verdict judge_in(struct __sk_buff *skb, struct packet *packet, int is_host)
{
	__u32 ifindex = skb->ifindex;

	packet->legs = FLOW_FLAG_INGRESS_OK;
	if (!is_host) {
		if (forward_in(skb, packet) != VERDICT_PASSED)
			return VERDICT_POLICY;
		return judge_leg(slot_of(ifindex), ifindex, UNIT_INGRESS);
	}
	tell(ifindex, DIRECTION_TO_POD, VERDICT_PASSED, 0);
	return VERDICT_PASSED;
}

/* Which flow it is of, and whether it may pass. */
__noinline int flow_in(struct __sk_buff *skb, __u32 is_host)
{
	struct packet *packet = this_packet();
	enum verdict verdict;
	__u32 flags;
	int use, is_over;

	if (!packet)
		return VERDICT_POLICY;
	use = find_flow();
	if (use == FLOW_USE_PROMOTE) {
		if (promote_flow() == FLOW_MADE_FULL)
			return VERDICT_CONNTRACK_FULL;
		use = find_flow();
	}
	/* (A SYN of a Service's backend may be made up, as the RST before it.) */
	is_over = use == FLOW_USE_CLOSED && (packet->from_opener || !is_translated(packet->record.state));
	switch (use) {
	case FLOW_USE_OK:
	case FLOW_USE_PROMOTE:
		plan_translation(packet, 0);
		return VERDICT_PASSED;
	case FLOW_USE_JUDGE:
		if (!packet->from_opener && !(packet->record.state & FLOW_FLAG_EGRESS_OK)) {
			forget_flow();
			break;
		}
		packet->is_old = 1;
		plan_translation(packet, 0);
		verdict = judge_in(skb, packet, is_host);
		if (verdict == VERDICT_PASSED && packet->from_opener &&
		    packet->legs & ~packet->record.state) {
			packet->task = FLOW_TASK_ALLOW;
			find_flow();
		}
		return verdict;
	default:
		break;
	}
	if (answers_nothing(&packet->headers.tuple) && !is_host)
		return VERDICT_UNRELATED_ICMP;
	packet->from_opener = 1;
	packet->via_pointer = 0;
	packet->to = packet->headers.tuple;
	packet->judged = packet->headers.tuple;
	verdict = judge_in(skb, packet, is_host);
	if (verdict != VERDICT_PASSED || !keeps_record(&packet->headers.tuple) ||
	    answers_nothing(&packet->headers.tuple))
		return verdict;
	/* Not before: whoever sends a RST and a SYN may pretend, and the flow is alive. */
	if (is_over)
		forget_flow();
	flags = packet->legs | FLOW_FLAG_VIA_STACK | (is_host ? FLOW_FLAG_OF_HOST : 0);
	return make_flow(flags) == FLOW_MADE_FULL ? VERDICT_CONNTRACK_FULL : VERDICT_PASSED;
}

/* A packet that the stack gives to a pod: VERDICT_PASSED or why it is dropped. */
__noinline int packet_in(struct __sk_buff *skb)
{
	struct packet *packet = this_packet();
	enum verdict verdict;
	__u32 is_host;

	if (!packet)
		return VERDICT_REWRITE;
	verdict = take_packet(skb, packet, PLACE_POD_IN);
	if (verdict != VERDICT_PASSED)
		return verdict;
	if (is_link_talk(&packet->headers, 0))
		return VERDICT_PASSED;
	if (packet->headers.fragment == FRAGMENT_KIND_LATER) {
		verdict = recall_fragment(&packet->headers);
		if (verdict != VERDICT_PASSED)
			return verdict;
	}
	is_host = pod_config.mark_host && (skb->mark & pod_config.mark_host) == pod_config.mark_host;
	if (packet->headers.is_error) {
		verdict = relate_error(skb);
		if (verdict == VERDICT_UNRELATED_ICMP && is_host)
			return VERDICT_PASSED;
	} else {
		verdict = flow_in(skb, is_host);
	}
	if (verdict != VERDICT_PASSED)
		return verdict;
	if (packet->headers.fragment == FRAGMENT_KIND_FIRST)
		remember_fragment(&packet->headers);
	return translate_packet(skb, packet);
}

/* What the stack gives to a pod, told of if it is dropped. */
static __always_inline enum verdict admit_in(struct __sk_buff *skb)
{
	enum verdict verdict = packet_in(skb);

	tell_drop(skb->ifindex, DIRECTION_TO_POD, verdict);
	return verdict;
}

#endif
