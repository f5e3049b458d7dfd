/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* ICMP errors, and the flows of what they quote: docs/design/ebpf-flows.md. For one family (see family.h). */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include "consts.h"
#include "packet.h"
#include "track.h"

#if (FAMILY == 4 && !defined(TORTIE_RELATED4_H)) || (FAMILY == 6 && !defined(TORTIE_RELATED6_H))
#if FAMILY == 4
#define TORTIE_RELATED4_H
#else
#define TORTIE_RELATED6_H
#endif

#ifndef TORTIE_RELATED_H
#define TORTIE_RELATED_H

#define is_related OF_FAMILY(is_related)

#endif

/* Whether an ICMP error is about a packet of a flow that is known, which packet->record is then. */
__noinline int is_related(struct __sk_buff *skb)
{
	struct packet *packet = this_packet();

	if (!packet)
		return 0;
	if (parse_headers(skb, packet->headers.l4_offset + ICMP_HEADER, packet->headers.end,
			  &packet->quoted) != VERDICT_PASSED ||
	    packet->quoted.fragment == FRAGMENT_KIND_LATER || packet->quoted.is_error)
		return 0;
	/* It goes to the sender of what it quotes. */
	if (compare_addresses(packet->quoted.tuple.source, packet->headers.tuple.destination))
		return 0;
	packet->task = FLOW_TASK_LOOK;
	return find_flow() == FLOW_USE_OK;
}

#endif
