/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Untracked policy on a frame. For one family (see family.h). */
#include "consts.h"
#include "counters.h"
#include "packet.h"
#include "icmp.h"
#include "judge.h"

#if (FAMILY == 4 && !defined(TORTIE_XDP4_H)) || (FAMILY == 6 && !defined(TORTIE_XDP6_H))
#if FAMILY == 4
#define TORTIE_XDP4_H
#else
#define TORTIE_XDP6_H
#endif

#ifndef TORTIE_XDP_H
#define TORTIE_XDP_H
#define is_refused OF_FAMILY(is_refused)
#endif

/*
 * Whether untracked policy refuses a frame that comes in. Only then it is counted, by the rule that decided
 * and those that log: what passes, tortie_host_in counts. Staged policies see what it sees.
 */
__noinline int is_refused(struct xdp_md *frame, __u32 slot)
{
	struct packet *packet = this_packet();
	__u32 ifindex = frame->ingress_ifindex, length;
	const struct flow_headers *headers;

	if (!packet)
		return 0;
	begin_packet(frame, packet, PLACE_HOST_IN);
	headers = &packet->headers;
	if (parse_headers(frame, ETH_HLEN, 0, &packet->headers) != VERDICT_PASSED)
		return 0;
	if (is_link_talk(headers, 0) || headers->fragment == FRAGMENT_KIND_LATER)
		return 0;
	packet->judged = headers->tuple;
	if (is_failsafe(FAILSAFE_IN, 1))
		return 0;
	length = packet->length;
	packet->length = 0;
	if (judge_host(slot, ifindex, HOST_UNIT_UNTRACKED | HOST_UNIT_SILENT, ifindex) != RULE_ACTION_DENY)
		return 0;
	count_hit(packet->decision.rule, length);
#pragma unroll
	for (__u32 i = 0; i < DECISION_LOGS; i++) {
		if (i < packet->decision.logs)
			count_hit(packet->decision.logged[i], length);
	}
	tell(ifindex, DIRECTION_TO_POD, VERDICT_POLICY, packet->unit);
	return 1;
}

#endif
