/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What a packet becomes before it goes on, and its way into a pod of this node: for what a pod sends, and for
 * what comes by an uplink. For one family (see family.h).
 */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include "consts.h"
#include "endpoint-maps.h"
#include "into-pod.h"
#include "packet.h"
#include "rewrite.h"

#if (FAMILY == 4 && !defined(TORTIE_SEND4_H)) || (FAMILY == 6 && !defined(TORTIE_SEND6_H))
#if FAMILY == 4
#define TORTIE_SEND4_H
#else
#define TORTIE_SEND6_H
#endif

#ifndef TORTIE_SEND_H
#define TORTIE_SEND_H

#define translate_packet OF_FAMILY(translate_packet)
#define forward_to_pod OF_FAMILY(forward_to_pod)

#endif

/* Makes it what plan_translation has said. */
static __always_inline enum verdict translate_packet(struct __sk_buff *skb, struct packet *packet)
{
	if (packet->translation == TRANSLATION_ERROR)
		return rewrite_error(skb, &packet->headers, &packet->quoted, &packet->to);
	if (packet->translation == TRANSLATION_PACKET)
		return rewrite_packet(skb, &packet->headers, &packet->to);
	return VERDICT_PASSED;
}

/*
 * Makes the frame what the pod of packet->hop gets of the node that forwards it, and packet->way WAY_POD;
 * that stays what it was if the slot is another pod's by now.
 */
static __always_inline enum verdict forward_to_pod(struct __sk_buff *skb, struct packet *packet)
{
	__u32 slot = packet->hop.slot;
	const struct pod_slot *pod = bpf_map_lookup_elem(&tortie_pods, &slot);
	enum verdict verdict;

	if (!pod || pod->ifindex != packet->hop.ifindex)
		return VERDICT_PASSED;
	verdict = lower_hops(skb, &packet->headers);
	if (verdict != VERDICT_PASSED)
		return verdict;
	verdict = set_macs(skb, pod->pod_mac, pod->host_mac);
	if (verdict == VERDICT_PASSED)
		packet->way = WAY_POD;
	return verdict;
}

#endif
