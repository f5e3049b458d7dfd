/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Who answers for the Service that a pod asks for: docs/design/ebpf-flows.md, "Services". For one family (see
 * family.h). */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include "consts.h"
#include "packet.h"
#include "track.h"
#include "judge.h"
#include "service.h"
#include "refuse.h"
#include "masquerade.h"
#include "endpoint.h"

#if (FAMILY == 4 && !defined(TORTIE_BACKEND4_H)) || (FAMILY == 6 && !defined(TORTIE_BACKEND6_H))
#if FAMILY == 4
#define TORTIE_BACKEND4_H
#else
#define TORTIE_BACKEND6_H
#endif

#ifndef TORTIE_BACKEND_H
#define TORTIE_BACKEND_H

#define choose_backend OF_FAMILY(choose_backend)

#endif

/*
 * Whom the packet is for: packet->to, packet->judged, and the flags of its record in packet->legs. A
 * Service's backend, if it is for one.
 */
__noinline int choose_backend(struct __sk_buff *skb)
{
	struct packet *packet = this_packet();
	const struct flow_tuple *asked;
	const struct run_state *run;
	const __u8 *own;
	int answer;

	if (!packet)
		return VERDICT_NO_BACKEND;
	asked = &packet->headers.tuple;
	packet->legs = 0;
	packet->to = *asked;
	packet->judged = *asked;
	answer = find_backend(asked, &packet->backend);
	if (answer == SERVICE_ANSWER_NO_FRONTEND)
		return VERDICT_PASSED;
	run = run_state();
	if (asked->protocol == PROTOCOL_TCP && !is_syn(asked->protocol, packet->headers.tcp_flags)) {
		switch (handover_of(run)) {
		case HANDOVER_IN:
			/* Perhaps one of netfilter's, which will be taken over. */
			packet->via_stack = 1;
			return VERDICT_PASSED;
		case HANDOVER_OUT:
			/* Perhaps one that netfilter has by now: it will be said again. */
			return VERDICT_MID_FLOW;
		default:
			/* Whoever the backend was: its opener is to know at once. */
			return refuse(skb, packet, VERDICT_MID_FLOW, REFUSAL_PORT);
		}
	}
	/* What is handed over has been told: a flow that begins now is netfilter's from its first packet. */
	if (handover_of(run) == HANDOVER_OUT) {
		packet->via_stack = 1;
		return VERDICT_PASSED;
	}
	if (answer == SERVICE_ANSWER_SCTP_PORT)
		return VERDICT_SCTP_PORT;
	if (answer != SERVICE_ANSWER_BACKEND)
		return answer == SERVICE_ANSWER_UNSTABLE
			   ? VERDICT_NO_BACKEND
			   : refuse(skb, packet, VERDICT_NO_BACKEND, REFUSAL_PORT);
	packet->translation = TRANSLATION_PACKET;
	packet->legs = FLOW_FLAG_DESTINATION;
	__builtin_memcpy(packet->to.destination, packet->backend.address, ADDRESS_BYTES);
	packet->to.destination_port = packet->backend.port;
	packet->judged = packet->to;
	if (compare_addresses(packet->to.destination, packet->to.source) == 0) {
		/* Its own: it would take the answer for one of another flow. */
		own = run ? (FAMILY == 4 ? run->host4 : run->host6) : NULL;
		if (!own || !has_address(own))
			return refuse(skb, packet, VERDICT_NO_BACKEND, REFUSAL_PORT);
		__builtin_memcpy(packet->to.source, own, ADDRESS_BYTES);
		packet->legs |= FLOW_FLAG_SOURCE;
	}
	return VERDICT_PASSED;
}

#endif
