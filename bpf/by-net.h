/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What a pod sends that doesn't stay on the node, and the stack doesn't see: out by an uplink, or to the node
 * as if it had come by one. docs/design/ebpf-net.md. For one family (see family.h).
 */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include "consts.h"
#include "packet.h"
#include "icmp.h"
#include "track.h"
#include "judge.h"
#include "fragment.h"
#include "rewrite.h"
#include "send.h"
#include "refuse.h"
#include "forward.h"
#include "masquerade.h"
#include "endpoint.h"

#if (FAMILY == 4 && !defined(TORTIE_BY_NET4_H)) || (FAMILY == 6 && !defined(TORTIE_BY_NET6_H))
#if FAMILY == 4
#define TORTIE_BY_NET4_H
#else
#define TORTIE_BY_NET6_H
#endif

#ifndef TORTIE_BY_NET_H
#define TORTIE_BY_NET_H

#define fits_uplink OF_FAMILY(fits_uplink)
#define leaves_by_net OF_FAMILY(leaves_by_net)
#define open_by_net OF_FAMILY(open_by_net)
#define send_net OF_FAMILY(send_net)
#define send_node OF_FAMILY(send_node)

#endif

/* Whether packet->to goes by an uplink, and is short enough for it and for the route. */
static __always_inline int fits_uplink(struct __sk_buff *skb, struct packet *packet)
{
	__u32 ifindex, mtu;

	if (skb->pkt_type != PACKET_HOST)
		return 0;
	ifindex = device_out(skb, packet);
	return ifindex && uplink_at(ifindex) && !packet->too_long && fits_device(skb, ifindex, &mtu);
}

/*
 * Whether a flow that this packet opens is to go past the stack. TCP in the midst of one that isn't known is
 * perhaps netfilter's, which has translated it: it stays there.
 */
static __always_inline int leaves_by_net(struct __sk_buff *skb, struct packet *packet)
{
	const struct flow_headers *headers = &packet->headers;

	if (packet->via_stack || handover_of(run_state()))
		return 0;
	if (!packet->has_hop)
		look_for_hop();
	if (packet->hop.kind == HOP_KIND_POD || packet->hop.kind == HOP_KIND_HOST)
		return 0;
	if (!keeps_record(&headers->tuple) || headers->fragment != FRAGMENT_KIND_NONE || has_options(headers))
		return 0;
	if (headers->tuple.protocol == PROTOCOL_TCP && !is_syn(PROTOCOL_TCP, headers->tcp_flags))
		return 0;
	if (!is_forwarded(packet->to.destination))
		return 0;
	return fits_uplink(skb, packet) && is_direct(packet->route.ifindex);
}

/* make_flow with these flags for a flow that leaves by an uplink; FLOW_BY_STACK: it doesn't. */
__noinline int open_by_net(struct __sk_buff *skb, __u32 flags)
{
	struct packet *packet = this_packet();
	int made;

	if (!packet || !leaves_by_net(skb, packet))
		return FLOW_BY_STACK;
	flags |= FLOW_FLAG_BY_NET;
	made = is_masqueraded() ? make_masqueraded(skb, flags) : make_flow(flags);
	packet->by_net = made != FLOW_BY_STACK;
	return made;
}

/*
 * Sends a packet of a flow by the net. An exception goes by the stack, from the pod's address: the stack
 * takes the node's, coming from a pod, for spoofed, and netfilter masquerades it. By another port perhaps, so
 * what only has options goes out all the same if it is masqueraded.
 */
__noinline int send_net(struct __sk_buff *skb, __u32 is_plain)
{
	struct packet *packet = this_packet();
	enum verdict verdict;
	int keeps_source;

	if (!packet)
		return VERDICT_REWRITE;
	keeps_source = packet->translation == TRANSLATION_NONE ||
		       (packet->translation == TRANSLATION_PACKET &&
			compare_addresses(packet->to.source, packet->headers.tuple.source) == 0);
	if (!fits_uplink(skb, packet) ||
	    (keeps_source && (has_options(&packet->headers) || !is_direct(packet->route.ifindex)))) {
		if (packet->headers.fragment == FRAGMENT_KIND_FIRST)
			remember_fragment(&packet->headers);
		if (packet->translation != TRANSLATION_PACKET)
			return VERDICT_PASSED;
		if (!keeps_source) {
			__builtin_memcpy(packet->to.source, packet->headers.tuple.source, ADDRESS_BYTES);
			packet->to.source_port = packet->headers.tuple.source_port;
		}
		return rewrite_packet(skb, &packet->headers, &packet->to);
	}
	if (packet->headers.hops <= 1)
		return refuse(skb, packet, VERDICT_HOP_LIMIT, REFUSAL_HOPS);
	if (packet->headers.fragment == FRAGMENT_KIND_FIRST)
		remember_fragment(&packet->headers);
	verdict = translate_packet(skb, packet);
	if (verdict != VERDICT_PASSED)
		return verdict;
	verdict = lower_hops(skb, &packet->headers);
	if (verdict != VERDICT_PASSED)
		return verdict;
	packet->way = WAY_NET;
	if (is_plain)
		note_ends(skb, 0);
	return VERDICT_PASSED;
}

/*
 * An answer of the Service that the node itself has asked: it comes from the address that was asked, by the
 * device where the stack expects that. Without such a device the stack has it from the pod's, and its filter
 * of reverse paths decides.
 */
__noinline int send_node(struct __sk_buff *skb)
{
	struct packet *packet = this_packet();
	struct flow_tuple *routed;
	enum verdict verdict;

	if (!packet)
		return VERDICT_REWRITE;
	routed = &packet->routed;
	*routed = packet->to;
	/* The quoted packet was the node's own. */
	if (packet->translation != TRANSLATION_ERROR) {
		__builtin_memcpy(routed->source, packet->to.destination, ADDRESS_BYTES);
		__builtin_memcpy(routed->destination, packet->to.source, ADDRESS_BYTES);
		routed->source_port = packet->to.destination_port;
		routed->destination_port = packet->to.source_port;
	}
	find_route(skb);
	packet->has_route = 1;
	if (packet->headers.fragment == FRAGMENT_KIND_FIRST)
		remember_fragment(&packet->headers);
	verdict = translate_packet(skb, packet);
	if (verdict == VERDICT_PASSED && uplink_at(packet->route.ifindex))
		packet->way = WAY_NODE;
	return verdict;
}

#endif
