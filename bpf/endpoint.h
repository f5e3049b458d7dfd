/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What both directions of a pod's device do with IP packets: docs/design/ebpf-flows.md. For one family (see
 * family.h). */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include "consts.h"
#include "maps.h"
#include "counters.h"
#include "packet.h"
#include "judge.h"
#include "refuse.h"
#include "related.h"
#include "translation.h"
#include "forward.h"
#include "send.h"
#include "uplink.h"

#if (FAMILY == 4 && !defined(TORTIE_ENDPOINT4_H)) || (FAMILY == 6 && !defined(TORTIE_ENDPOINT6_H))
#if FAMILY == 4
#define TORTIE_ENDPOINT4_H
#else
#define TORTIE_ENDPOINT6_H
#endif

#ifndef TORTIE_ENDPOINT_H
#define TORTIE_ENDPOINT_H

#define know_flow OF_FAMILY(know_flow)
#define take_packet OF_FAMILY(take_packet)
#define relate_error OF_FAMILY(relate_error)
#define refuse OF_FAMILY(refuse)
#define tell_drop OF_FAMILY(tell_drop)
#define is_local OF_FAMILY(is_local)
#define note_ends OF_FAMILY(note_ends)

/* skb->pkt_type (linux/if_packet.h). */
#define PACKET_HOST 0
#define PACKET_OTHERHOST 3

/* Nobody but a pod's program says that it has judged a packet, and none that the node sent it. */
static __always_inline void mark_seen(struct __sk_buff *skb)
{
	skb->mark = (skb->mark & ~pod_config.mark_host) | pod_config.mark_seen;
}

/* The same, and that it goes past the stack, for the program of the uplink that it leaves by. */
static __always_inline void mark_past_stack(struct __sk_buff *skb)
{
	mark_seen(skb);
	skb->tc_index = PAST_STACK;
}

static __always_inline int to_stack(struct __sk_buff *skb)
{
	mark_seen(skb);
	skb->tc_index = 0;
	/* See conclude. */
	return TC_ACT_UNSPEC;
}

#endif

/* The first look at a packet: nothing is left of the last one. */
static __always_inline enum verdict take_packet(struct __sk_buff *skb, struct packet *packet,
						enum place place)
{
	begin_packet(skb, packet, place);
	return parse_headers(skb, ETH_HLEN, 0, &packet->headers);
}

/* What the record says of where the packet goes, and as what. */
static __always_inline void know_flow(struct packet *packet, int is_error)
{
	packet->via_stack = packet->record.state & FLOW_FLAG_VIA_STACK ? 1 : 0;
	packet->by_net = packet->record.state & FLOW_FLAG_BY_NET ? 1 : 0;
	/* (It has both legs, or is refused.) */
	packet->keeps_way = !(packet->record.state & (FLOW_FLAG_VIA_STACK | FLOW_FLAG_BY_NET));
	plan_translation(packet, is_error);
	packet->to_node = packet->translation != TRANSLATION_NONE && is_own_service(packet->record.state) &&
			  packet->from_opener == (__u32)is_error;
}

/*
 * An ICMP error: it goes where the packet that it quotes came from, if that was one of a flow that is known.
 * It needs no leg of its own.
 */
__noinline int relate_error(struct __sk_buff *skb)
{
	struct packet *packet = this_packet();

	if (!packet || !is_related(skb))
		return VERDICT_UNRELATED_ICMP;
	know_flow(packet, 1);
	return VERDICT_PASSED;
}

/* Sends an ICMP error back, if one is due. */
static __always_inline enum verdict refuse(struct __sk_buff *skb, struct packet *packet, enum verdict verdict,
					   enum refusal refusal)
{
	if (refuse_packet(skb, &packet->headers, refusal, 0))
		packet->way = WAY_BACK;
	return verdict;
}

/* Whether the packet goes to a pod of this node, past the stack. */
static __always_inline int is_local(struct __sk_buff *skb, struct packet *packet)
{
	if (packet->via_stack || skb->pkt_type != PACKET_HOST)
		return 0;
	if (!packet->has_hop)
		look_for_hop();
	if (packet->hop.kind != HOP_KIND_POD)
		return 0;
	/* The stack takes a packet that comes back to its own sender for spoofed; and in the midst of a
	 * connection of which it has seen nothing, netfilter takes a FIN or a RST for invalid. */
	return !(packet->hop.flags & HOP_SHAPED) || packet->keeps_way || packet->hop.ifindex == skb->ifindex;
}

/*
 * Notes in the record which pods' slots its ends have, for established.h. `to` is the receiver's, 0 if that
 * is none of ours.
 */
__noinline int note_ends(struct __sk_buff *skb, __u32 to)
{
	struct packet *packet = this_packet();
	struct flow_record *element;
	__u32 own, sender;

	if (!packet)
		return 0;
	own = slot_of(skb->ifindex);
	sender = packet->sender & 1;
	if (packet->record.slot[sender] == own && packet->record.slot[!sender] == to)
		return 0;
	element = answered_element(&packet->key);
	if (!element)
		return 0;
	/* What another flow's element gets here by a race, it doesn't believe. */
	*(volatile __u32 *)&element->slot[sender] = own;
	*(volatile __u32 *)&element->slot[!sender] = to;
	return 0;
}

/* Tells of a packet that is dropped, whatever policy says of it: that is told where it is asked. */
static __always_inline void tell_drop(__u32 ifindex, enum direction direction, enum verdict verdict)
{
	if (verdict != VERDICT_PASSED && verdict != VERDICT_POLICY)
		tell(ifindex, direction, verdict, 0);
}

#endif
