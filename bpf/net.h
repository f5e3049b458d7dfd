/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What both directions of an uplink need: docs/design/ebpf-net.md. For one family (see family.h). */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>
#include "consts.h"
#include "maps.h"
#include "counters.h"
#include "packet.h"
#include "icmp.h"
#include "track.h"
#include "judge.h"
#include "fragment.h"
#include "rewrite.h"
#include "refuse.h"
#include "related.h"
#include "translation.h"
#include "forward.h"
#include "send.h"
#include "uplink.h"

#if (FAMILY == 4 && !defined(TORTIE_NET4_H)) || (FAMILY == 6 && !defined(TORTIE_NET6_H))
#if FAMILY == 4
#define TORTIE_NET4_H
#else
#define TORTIE_NET6_H
#endif

#ifndef TORTIE_NET_H
#define TORTIE_NET_H

#define is_unheard OF_FAMILY(is_unheard)
#define hop_of OF_FAMILY(hop_of)
#define uplink_to OF_FAMILY(uplink_to)
#define route_back OF_FAMILY(route_back)
#define rewrite_planned OF_FAMILY(rewrite_planned)
#define refuse_net OF_FAMILY(refuse_net)

/* Whether a host endpoint's untracked policy has allowed the packet. */
static __always_inline int is_untracked(const struct __sk_buff *skb)
{
	return (skb->mark & pod_config.mark_untracked) != 0;
}

#endif

/* Whether the packet is in the midst of a TCP flow that nobody here knows. */
static __always_inline int is_unheard(const struct packet *packet)
{
	const struct flow_headers *headers = &packet->headers;
	struct flow_key key;

	if (headers->tuple.protocol != PROTOCOL_TCP || headers->tcp_flags & (TCP_SYN | TCP_RST) ||
	    headers->fragment == FRAGMENT_KIND_LATER)
		return 0;
	key_of_tuple(&headers->tuple, &key);
	return !is_heard_of(&key);
}

/* What is known of an address; NULL: nothing. */
static __always_inline const struct hop *hop_of(const __u8 *address)
{
	struct address_info info = {};

	find_address(address, &info);
	return info.hop ? bpf_map_lookup_elem(&tortie_hops, &info.hop) : NULL;
}

/*
 * The device by which packets of the tuple packet->routed leave, if it is an uplink; 0: they leave by another
 * one, or not at all. The next hop is in packet->route. It is asked as if they had come by this device:
 * routes by rules that look at where a packet comes from aren't found for what leaves a pod or the node.
 */
static __always_inline __u32 uplink_to(struct __sk_buff *skb, const struct packet *packet)
{
	find_route(skb);
	return packet->route.ifindex && uplink_at(packet->route.ifindex) ? packet->route.ifindex : 0;
}

/* Writes into packet->routed the tuple, from its destination to its source. */
static __always_inline void route_back(struct packet *packet, const struct flow_tuple *tuple)
{
	packet->routed = *tuple;
	__builtin_memcpy(packet->routed.source, tuple->destination, ADDRESS_BYTES);
	__builtin_memcpy(packet->routed.destination, tuple->source, ADDRESS_BYTES);
	if (!has_ports(tuple->protocol))
		return;
	packet->routed.source_port = tuple->destination_port;
	packet->routed.destination_port = tuple->source_port;
}

/* Changes the packet as plan_translation has said. */
static __always_inline enum verdict rewrite_planned(struct __sk_buff *skb, struct packet *packet)
{
	if (packet->headers.fragment == FRAGMENT_KIND_FIRST)
		remember_fragment(&packet->headers);
	return translate_packet(skb, packet);
}

/* Makes of the packet what tells its sender why it isn't sent, if one is due: packet->way. Returns `verdict`.
 */
__noinline int refuse_net(struct __sk_buff *skb, enum verdict verdict, enum refusal refusal, __u32 mtu)
{
	struct packet *packet = this_packet();

	if (packet && refuse_packet(skb, &packet->headers, refusal, mtu))
		packet->way = WAY_BACK;
	return verdict;
}

#endif
