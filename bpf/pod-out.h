/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The IP packets that a pod sends: docs/design/ebpf-flows.md. For one family (see family.h).
 *
 *	parse - spoofed? - fragment - [ICMP error: related?] - record - [new: service, policy, record] - send
 */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include "consts.h"
#include "maps.h"
#include "counters.h"
#include "sender.h"
#include "packet.h"
#include "icmp.h"
#include "track.h"
#include "judge.h"
#include "fragment.h"
#include "rewrite.h"
#include "refuse.h"
#include "forward.h"
#include "endpoint.h"
#include "backend.h"
#include "by-net.h"
#include "uplink.h"

#if (FAMILY == 4 && !defined(TORTIE_POD_OUT4_H)) || (FAMILY == 6 && !defined(TORTIE_POD_OUT6_H))
#if FAMILY == 4
#define TORTIE_POD_OUT4_H
#else
#define TORTIE_POD_OUT6_H
#endif

#ifndef TORTIE_POD_OUT_H
#define TORTIE_POD_OUT_H

#define admit_sender OF_FAMILY(admit_sender)
#define is_shaped OF_FAMILY(is_shaped)
#define is_encapsulated OF_FAMILY(is_encapsulated)
#define judge_out OF_FAMILY(judge_out)
#define open_out OF_FAMILY(open_out)
#define has_moved_here OF_FAMILY(has_moved_here)
#define judge_known_out OF_FAMILY(judge_known_out)
#define flow_out OF_FAMILY(flow_out)
#define send_out OF_FAMILY(send_out)
#define packet_out OF_FAMILY(packet_out)
#define dispatch_out OF_FAMILY(dispatch_out)

#endif

/* The device's own addresses; for link talk the link's, too. */
static __always_inline enum verdict admit_sender(const struct packet *packet, __u32 ifindex)
{
	struct source_key key = {
	    .prefix_len = SOURCE_KEY_FIXED_BITS + 8 * ADDRESS_BYTES,
	    .ifindex = ifindex,
	    .family = FAMILY,
	};

	__builtin_memcpy(key.address, packet->headers.tuple.source, ADDRESS_BYTES);
	if (source_allowed(&key))
		return VERDICT_PASSED;
	if (FAMILY == 6 && is_link_talk(&packet->headers, 1) && is_link_local_or_unspecified(&key))
		return VERDICT_PASSED;
	return VERDICT_SPOOFED_SOURCE;
}

/* Whether what the pod sends must pass by its device's qdiscs. */
static __always_inline int is_shaped(__u32 ifindex)
{
	__u32 slot = slot_of(ifindex);
	const struct pod_slot *pod = bpf_map_lookup_elem(&tortie_pods, &slot);

	return slot && pod && *(const volatile __u32 *)&pod->flags & POD_SHAPED;
}

/* What the end of a tunnel would unpack, and take what is inside for another's. */
static __always_inline int is_encapsulated(const struct flow_tuple *tuple)
{
	if (tuple->protocol == PROTOCOL_UDP)
		return pod_config.vxlan_denied && tuple->destination_port == pod_config.vxlan_denied;
	return pod_config.ipip_denied && tuple->protocol == PROTOCOL_IPIP;
}

/*
 * Judges packet->judged at its sender's device: the sender's leg, and the receiver's if that is a pod of this
 * node. packet->legs are those that were allowed. A refusal of the receiver's is counted there; here the
 * packet passed, and goes nowhere.
 */
__noinline int judge_out(struct __sk_buff *skb)
{
	struct packet *packet = this_packet();
	__u32 ifindex = skb->ifindex;

	if (!packet)
		return VERDICT_POLICY;
	packet->legs = 0;
	if (is_encapsulated(&packet->judged))
		return VERDICT_ENCAPSULATION;
	if (judge_leg(slot_of(ifindex), ifindex, UNIT_EGRESS) != VERDICT_PASSED)
		return VERDICT_POLICY;
	packet->legs = FLOW_FLAG_EGRESS_OK;
	if (!is_local(skb, packet))
		return forward_out(skb, packet, 0);
	if (forward_out(skb, packet, 1) != VERDICT_PASSED)
		return VERDICT_POLICY;
	if (judge_leg(packet->hop.slot, packet->hop.ifindex, UNIT_INGRESS) != VERDICT_PASSED) {
		count_on(packet->hop.ifindex, packet->length, DIRECTION_TO_POD, VERDICT_POLICY);
		packet->way = WAY_NOWHERE;
		return VERDICT_PASSED;
	}
	packet->legs |= FLOW_FLAG_INGRESS_OK;
	return VERDICT_PASSED;
}

/* A flow of which nothing is known. */
__noinline int open_out(struct __sk_buff *skb)
{
	struct packet *packet = this_packet();
	int made = FLOW_BY_STACK;
	enum verdict verdict;
	__u32 flags;

	if (!packet)
		return VERDICT_POLICY;
	if (answers_nothing(&packet->headers.tuple))
		return VERDICT_UNRELATED_ICMP;
	packet->from_opener = 1;
	packet->via_pointer = 0;
	verdict = judge_pre_dnat(skb, packet);
	if (verdict != VERDICT_PASSED)
		return verdict;
	verdict = choose_backend(skb);
	/* While flows are taken over the stack may have it, whoever is behind the frontend. */
	if (verdict != VERDICT_PASSED || packet->via_stack)
		return verdict;
	/* Of another destination than a record's that was just forgotten. */
	packet->has_hop = 0;
	packet->has_route = 0;
	packet->by_net = 0;
	packet->keeps_way = 0;
	packet->to_node = 0;
	if (!(packet->legs & FLOW_FLAG_SOURCE) && is_shaped(skb->ifindex))
		packet->via_stack = 1;
	flags = packet->legs | (packet->pre_accepted ? FLOW_FLAG_PRE_ACCEPTED : 0);
	verdict = judge_out(skb);
	if (verdict != VERDICT_PASSED || packet->way != WAY_STACK)
		return verdict;
	if (!is_local(skb, packet)) {
		/* The stack takes a packet from the node's own address for spoofed. */
		if (flags & FLOW_FLAG_SOURCE)
			return VERDICT_NO_BACKEND;
		made = open_by_net(skb, flags | packet->legs);
		if (made == FLOW_BY_STACK)
			packet->via_stack = 1;
	}
	if (made == FLOW_BY_STACK) {
		if (!keeps_record(&packet->headers.tuple))
			return VERDICT_PASSED;
		made = make_flow(flags | packet->legs | (packet->via_stack ? FLOW_FLAG_VIA_STACK : 0));
	}
	switch (made) {
	case FLOW_MADE_OK:
		return VERDICT_PASSED;
	case FLOW_MADE_LATE:
		/* What the other CPU made, the next packet finds. This one is either of a flow that isn't
		 * translated, or its sender will say it again. */
		return packet->translation == TRANSLATION_NONE ? VERDICT_PASSED : VERDICT_CONNTRACK_FULL;
	default:
		return VERDICT_CONNTRACK_FULL;
	}
}

/* The record is known, and policy is asked all the same. */
static __always_inline int judge_known_out(struct __sk_buff *skb, struct packet *packet)
{
	enum verdict verdict;

	packet->is_old = 1;
	packet->pre_accepted = packet->record.state & FLOW_FLAG_PRE_ACCEPTED ? 1 : 0;
	know_flow(packet, 0);
	verdict = judge_out(skb);
	if (verdict != VERDICT_PASSED || packet->way != WAY_STACK)
		return verdict;
	if (packet->from_opener && packet->legs & ~packet->record.state) {
		packet->task = FLOW_TASK_ALLOW;
		find_flow();
	}
	return VERDICT_PASSED;
}

/*
 * Whether a flow by the net has its other end on this node by now, whose leg was never judged: what is
 * redirected meets no other program.
 */
static __always_inline int has_moved_here(struct __sk_buff *skb, struct packet *packet)
{
	const __u64 both = FLOW_FLAG_EGRESS_OK | FLOW_FLAG_INGRESS_OK;

	return packet->by_net && (packet->record.state & both) != both && is_local(skb, packet);
}

/* Which flow it is of, and whether it may pass. */
__noinline int flow_out(struct __sk_buff *skb)
{
	struct packet *packet = this_packet();
	int use;

	if (!packet)
		return VERDICT_POLICY;
	use = find_flow();
	if (use == FLOW_USE_PROMOTE) {
		if (promote_flow() == FLOW_MADE_FULL)
			return VERDICT_CONNTRACK_FULL;
		packet->is_old = 1;
		use = find_flow();
	}
	switch (use) {
	case FLOW_USE_OK:
	case FLOW_USE_PROMOTE:
		know_flow(packet, 0);
		if (!has_moved_here(skb, packet))
			return VERDICT_PASSED;
		if (packet->from_opener)
			break;
		forget_flow();
		return open_out(skb);
	case FLOW_USE_JUDGE:
		if (packet->from_opener ||
		    (packet->record.state & legs_needed(packet, packet->record.state)) ==
			legs_needed(packet, packet->record.state))
			break;
		/* The other end's leg was never judged: nobody has asked this one. */
		forget_flow();
		return open_out(skb);
	case FLOW_USE_CLOSED:
		forget_flow();
		return open_out(skb);
	default:
		return open_out(skb);
	}
	return judge_known_out(skb, packet);
}

/* Changes it, and sends it on its way. */
__noinline int send_out(struct __sk_buff *skb)
{
	struct packet *packet = this_packet();
	int redirect, is_back, is_plain;
	enum verdict verdict;
	__u32 mtu;

	if (!packet)
		return VERDICT_REWRITE;
	/* Of those that established.h handles from now on. */
	is_plain = packet->translation == TRANSLATION_NONE && !packet->via_pointer &&
		   !packet->headers.is_error && has_ports(packet->headers.tuple.protocol);
	redirect = is_local(skb, packet);
	if (!redirect && packet->by_net)
		return send_net(skb, is_plain);
	if (!redirect && packet->to_node)
		return send_node(skb);
	if (redirect && packet->headers.hops <= 1)
		return refuse(skb, packet, VERDICT_HOP_LIMIT, REFUSAL_HOPS);
	/* Headers that a router must look at, and what is too long, are the stack's. */
	if (redirect && has_options(&packet->headers))
		redirect = 0;
	if (redirect && !fits_device(skb, packet->hop.ifindex, &mtu))
		redirect = 0;
	/* A flow outlives its receiver's device, or that being closed: the filter there, or routes, drop it.
	 */
	if (redirect && !device_announced(packet->hop.ifindex))
		redirect = 0;
	if (packet->headers.fragment == FRAGMENT_KIND_FIRST)
		remember_fragment(&packet->headers);
	/* Where the stack comes between, answers are translated back behind it. */
	is_back = !packet->via_pointer && packet->translation != TRANSLATION_NONE &&
		  packet->from_opener == (packet->translation == TRANSLATION_ERROR);
	if (redirect || !is_back) {
		verdict = translate_packet(skb, packet);
		if (verdict != VERDICT_PASSED)
			return verdict;
	}
	if (!redirect) {
		if (is_plain && packet->via_stack)
			note_ends(skb, 0);
		return VERDICT_PASSED;
	}
	verdict = forward_to_pod(skb, packet);
	if (is_plain && packet->way == WAY_POD)
		note_ends(skb, packet->hop.slot);
	return verdict;
}

/* A packet that a pod sends: VERDICT_PASSED, and packet->way, or why it is dropped. */
__noinline int packet_out(struct __sk_buff *skb)
{
	struct packet *packet = this_packet();
	enum verdict verdict;

	if (!packet)
		return VERDICT_REWRITE;
	verdict = take_packet(skb, packet, PLACE_POD_OUT);
	if (verdict != VERDICT_PASSED)
		return verdict;
	verdict = admit_sender(packet, skb->ifindex);
	if (verdict != VERDICT_PASSED)
		return verdict;
	if (skb->pkt_type == PACKET_OTHERHOST)
		return VERDICT_OTHER_HOST;
	if (is_link_talk(&packet->headers, 1))
		return VERDICT_PASSED;
	if (packet->headers.fragment == FRAGMENT_KIND_LATER) {
		verdict = recall_fragment(&packet->headers);
		if (verdict != VERDICT_PASSED)
			return verdict;
	}
	verdict = packet->headers.is_error ? relate_error(skb) : flow_out(skb);
	if (verdict != VERDICT_PASSED || packet->way != WAY_STACK)
		return verdict;
	return send_out(skb);
}

/* What becomes of a packet that packet_out has seen, for tc; and counts it. */
static __always_inline int dispatch_out(struct __sk_buff *skb, enum verdict verdict)
{
	struct packet *packet = this_packet();
	const struct host_slot *uplink;

	if (!packet)
		return conclude(skb, DIRECTION_FROM_POD, VERDICT_REWRITE);
	count_on(skb->ifindex, packet->length, DIRECTION_FROM_POD, verdict);
	tell_drop(skb->ifindex, DIRECTION_FROM_POD, verdict);
	if (packet->way == WAY_BACK)
		return send_back(skb);
	if (verdict != VERDICT_PASSED || packet->way == WAY_NOWHERE)
		return TC_ACT_SHOT;
	if (packet->way == WAY_POD) {
		count_on(packet->hop.ifindex, packet->length, DIRECTION_TO_POD, VERDICT_PASSED);
		return redirect_into_pod(skb, packet->hop.ifindex);
	}
	if (packet->way == WAY_NET) {
		mark_past_stack(skb);
		return send_by(&packet->route);
	}
	if (packet->way == WAY_NODE) {
		uplink = uplink_at(packet->route.ifindex);
		return uplink ? give_to_uplink(skb, uplink->ifindex, uplink->mac) : TC_ACT_SHOT;
	}
	return to_stack(skb);
}

#endif
