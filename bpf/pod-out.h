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
#include "service.h"
#include "fragment.h"
#include "rewrite.h"
#include "refuse.h"
#include "forward.h"
#include "endpoint.h"

#if (FAMILY == 4 && !defined(TORTIE_POD_OUT4_H)) || (FAMILY == 6 && !defined(TORTIE_POD_OUT6_H))
#if FAMILY == 4
#define TORTIE_POD_OUT4_H
#else
#define TORTIE_POD_OUT6_H
#endif

#ifndef TORTIE_POD_OUT_H
#define TORTIE_POD_OUT_H

#define admit_sender OF_FAMILY(admit_sender)
#define is_local OF_FAMILY(is_local)
#define is_shaped OF_FAMILY(is_shaped)
#define is_encapsulated OF_FAMILY(is_encapsulated)
#define judge_out OF_FAMILY(judge_out)
#define choose_backend OF_FAMILY(choose_backend)
#define open_out OF_FAMILY(open_out)
#define judge_known_out OF_FAMILY(judge_known_out)
#define flow_out OF_FAMILY(flow_out)
#define note_ends OF_FAMILY(note_ends)
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

/* Whether the packet goes to a pod of this node, past the stack. */
static __always_inline int is_local(struct __sk_buff *skb, struct packet *packet)
{
	if (packet->via_stack || skb->pkt_type != PACKET_HOST)
		return 0;
	if (!packet->has_hop)
		look_for_hop();
	if (packet->hop.kind != HOP_KIND_POD)
		return 0;
	/* The stack takes a packet that comes back to its own sender for spoofed. */
	return !(packet->hop.flags & HOP_SHAPED) || packet->hop.ifindex == skb->ifindex;
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

/*
 * Whom the packet is for: packet->to, packet->judged, and the flags of its record in packet->legs. A
 * Service's backend, if it is for one.
 */
__noinline int choose_backend(struct __sk_buff *skb)
{
	struct packet *packet = this_packet();
	const struct flow_tuple *asked;
	const struct run_state *run;
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
		/* Perhaps one of netfilter's, which will be taken over. */
		if (!run || !*(const volatile __u32 *)&run->adopting)
			return VERDICT_MID_FLOW;
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
	if (compare_addresses(packet->to.destination, packet->to.source) == 0 && run) {
		/* Its own: it would take the answer for one of another flow. */
		__builtin_memcpy(packet->to.source, FAMILY == 4 ? run->host4 : run->host6, ADDRESS_BYTES);
		packet->legs |= FLOW_FLAG_SOURCE;
	}
	return VERDICT_PASSED;
}

/* A flow of which nothing is known. */
__noinline int open_out(struct __sk_buff *skb)
{
	struct packet *packet = this_packet();
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
		packet->via_stack = 1;
		flags |= FLOW_FLAG_VIA_STACK;
	}
	if (!keeps_record(&packet->headers.tuple))
		return VERDICT_PASSED;
	switch (make_flow(flags | packet->legs)) {
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
__noinline int judge_known_out(struct __sk_buff *skb)
{
	struct packet *packet = this_packet();
	enum verdict verdict;

	if (!packet)
		return VERDICT_POLICY;
	packet->is_old = 1;
	packet->pre_accepted = packet->record.state & FLOW_FLAG_PRE_ACCEPTED ? 1 : 0;
	packet->via_stack = packet->record.state & FLOW_FLAG_VIA_STACK ? 1 : 0;
	plan_translation(packet, 0);
	verdict = judge_out(skb);
	if (verdict != VERDICT_PASSED || packet->way != WAY_STACK)
		return verdict;
	if (packet->from_opener && packet->legs & ~packet->record.state) {
		packet->task = FLOW_TASK_ALLOW;
		find_flow();
	}
	return VERDICT_PASSED;
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
		packet->via_stack = packet->record.state & FLOW_FLAG_VIA_STACK ? 1 : 0;
		plan_translation(packet, 0);
		return VERDICT_PASSED;
	case FLOW_USE_JUDGE:
		if (packet->from_opener ||
		    (packet->record.state & legs_needed(packet, packet->record.state)) ==
			legs_needed(packet, packet->record.state))
			return judge_known_out(skb);
		/* The other end's leg was never judged: nobody has asked this one. */
		forget_flow();
		return open_out(skb);
	case FLOW_USE_CLOSED:
		forget_flow();
		return open_out(skb);
	default:
		return open_out(skb);
	}
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

/* Changes it, and sends it on its way. */
__noinline int send_out(struct __sk_buff *skb)
{
	struct packet *packet = this_packet();
	const struct pod_slot *pod;
	int redirect, is_back;
	enum verdict verdict;
	int is_plain;
	__u32 slot, mtu;

	if (!packet)
		return VERDICT_REWRITE;
	/* Of those that established.h handles from now on. */
	is_plain = packet->translation == TRANSLATION_NONE && !packet->via_pointer &&
		   !packet->headers.is_error && has_ports(packet->headers.tuple.protocol);
	redirect = is_local(skb, packet);
	if (redirect && packet->headers.hops <= 1)
		return refuse(skb, packet, VERDICT_HOP_LIMIT, REFUSAL_HOPS);
	/* Headers that a router must look at, and what is too long, are the stack's. */
	if (redirect && packet->headers.fragment == FRAGMENT_KIND_NONE &&
	    packet->headers.l4_offset - packet->headers.l3_offset != (FAMILY == 4 ? 20 : 40))
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
	if (packet->translation != TRANSLATION_NONE && (redirect || !is_back)) {
		verdict = packet->translation == TRANSLATION_ERROR
			      ? rewrite_error(skb, &packet->headers, &packet->quoted, &packet->to)
			      : rewrite_packet(skb, &packet->headers, &packet->to);
		if (verdict != VERDICT_PASSED)
			return verdict;
	}
	if (!redirect) {
		if (is_plain && packet->via_stack)
			note_ends(skb, 0);
		return VERDICT_PASSED;
	}
	slot = packet->hop.slot;
	pod = bpf_map_lookup_elem(&tortie_pods, &slot);
	if (!pod || pod->ifindex != packet->hop.ifindex)
		return VERDICT_PASSED;
	verdict = lower_hops(skb, &packet->headers);
	if (verdict != VERDICT_PASSED)
		return verdict;
	verdict = set_macs(skb, pod->pod_mac, pod->host_mac);
	if (verdict != VERDICT_PASSED)
		return verdict;
	packet->way = WAY_POD;
	if (is_plain)
		note_ends(skb, slot);
	return VERDICT_PASSED;
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
		/* Before 6.12 nothing takes the mark off on the way into the pod. */
		skb->mark = 0;
		return bpf_redirect_peer(packet->hop.ifindex, 0);
	}
	return to_stack(skb);
}

#endif
