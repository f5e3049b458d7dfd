/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * IP packets that come by an uplink: docs/design/ebpf-net.md. For one family (see family.h).
 *
 *	parse - [ICMP error: related?] - record - [new, for a pod: policy, record] - [translate back] - send
 *
 * Whatever isn't known here, or is unusual, is the stack's, behind which the pods' programs judge it.
 */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include "consts.h"
#include "maps.h"
#include "counters.h"
#include "packet.h"
#include "icmp.h"
#include "track.h"
#include "judge.h"
#include "fragment.h"
#include "net.h"

#if (FAMILY == 4 && !defined(TORTIE_NET_IN4_H)) || (FAMILY == 6 && !defined(TORTIE_NET_IN6_H))
#if FAMILY == 4
#define TORTIE_NET_IN4_H
#else
#define TORTIE_NET_IN6_H
#endif

#ifndef TORTIE_NET_IN_H
#define TORTIE_NET_IN_H

#define is_exception OF_FAMILY(is_exception)
#define forward_net_in OF_FAMILY(forward_net_in)
#define judge_net_in OF_FAMILY(judge_net_in)
#define open_net_in OF_FAMILY(open_net_in)
#define flow_net_in OF_FAMILY(flow_net_in)
#define find_exception OF_FAMILY(find_exception)
#define may_be_cut OF_FAMILY(may_be_cut)
#define note_receiver OF_FAMILY(note_receiver)
#define send_to_pod OF_FAMILY(send_to_pod)
#define send_to_node OF_FAMILY(send_to_node)
#define packet_net_in OF_FAMILY(packet_net_in)
#define dispatch_net_in OF_FAMILY(dispatch_net_in)

#endif

/* What the stack must see: fragments, which it puts together, and headers that a router has to look at. */
static __always_inline int is_exception(const struct flow_headers *headers)
{
	return headers->fragment != FRAGMENT_KIND_NONE || has_options(headers);
}

/* Host endpoints' word on what is forwarded to the pod of packet->hop. */
static __always_inline enum verdict forward_net_in(struct __sk_buff *skb, struct packet *packet)
{
	const struct run_state *run = run_state();
	__u32 device = skb->ifindex;

	if (!run)
		return VERDICT_PASSED;
	if (*(const volatile __u32 *)&run->forward_ingress && !packet->pre_accepted &&
	    forward_refused(host_slot_of(device), device, HOST_UNIT_FORWARD, device))
		return VERDICT_POLICY;
	return forward_refused(*(const volatile __u32 *)&run->pods_host, 0, HOST_UNIT_FORWARD + HOST_UNIT_OUT,
			       packet->hop.ifindex)
		   ? VERDICT_POLICY
		   : VERDICT_PASSED;
}

/* The receiver's leg, as the pod's program asks it. packet->legs are those that were allowed. */
static __always_inline int judge_net_in(struct __sk_buff *skb, struct packet *packet)
{
	packet->legs = FLOW_FLAG_INGRESS_OK;
	packet->pre_accepted = (skb->mark & pod_config.mark_pre_accepted) != 0;
	packet->judged = packet->to;
	if (forward_net_in(skb, packet) != VERDICT_PASSED)
		return VERDICT_POLICY;
	return judge_leg(packet->hop.slot, packet->hop.ifindex, UNIT_INGRESS);
}

/*
 * A flow of which nothing is known, or but that packet->record is over (is_next). The stack gets it unless it
 * is for a pod that may be reached past it.
 */
static __always_inline int open_net_in(struct __sk_buff *skb, struct packet *packet, int is_next)
{
	const struct flow_tuple *tuple;
	const struct hop *from;
	enum verdict verdict;

	tuple = &packet->headers.tuple;
	/* Flows of the other dataplane are taken over as the stack's. */
	if (handover_of(run_state()) || !keeps_record(tuple) || answers_nothing(tuple) ||
	    !is_forwarded(tuple->source))
		return VERDICT_PASSED;
	/* An answer, or a RST: nobody here has asked past the stack. */
	if (tuple->protocol == PROTOCOL_TCP && !is_syn(PROTOCOL_TCP, packet->headers.tcp_flags))
		return VERDICT_PASSED;
	packet->to = *tuple;
	packet->from_opener = 1;
	packet->via_pointer = 0;
	look_for_hop();
	if (packet->hop.kind != HOP_KIND_POD || packet->hop.flags & HOP_SHAPED ||
	    !device_announced(packet->hop.ifindex))
		return VERDICT_PASSED;
	/* What pretends to be from here is the stack's, which has its filter of reverse paths. */
	from = hop_of(tuple->source);
	if (from && (from->kind == HOP_KIND_POD || from->kind == HOP_KIND_HOST))
		return VERDICT_PASSED;
	/* What the pod answers must leave by an uplink, too: by this one, or who knows whose the source is?
	 */
	route_back(packet, tuple);
	if (uplink_to(skb, packet) != skb->ifindex)
		return VERDICT_PASSED;
	/* From here on it is the pod's. */
	packet->way = WAY_POD;
	verdict = judge_net_in(skb, packet);
	if (verdict != VERDICT_PASSED)
		return verdict;
	/* Not before: whoever sends a RST and a SYN may pretend, and the flow is alive. */
	if (is_next)
		forget_flow();
	return make_flow(packet->legs | FLOW_FLAG_BY_NET) == FLOW_MADE_FULL ? VERDICT_CONNTRACK_FULL
									    : VERDICT_PASSED;
}

/*
 * Which flow it is of. packet->way is POD if the pod of packet->hop is to have it (or to be refused it), NODE
 * if it is an answer of a Service to the node; else it is the stack's.
 */
__noinline int flow_net_in(struct __sk_buff *skb)
{
	struct packet *packet = this_packet();
	enum verdict verdict;
	int use;

	if (!packet)
		return VERDICT_PASSED;
	use = find_flow();
	if (use == FLOW_USE_NONE || use == FLOW_USE_POINTER)
		goto unknown;
	if (packet->record.state & FLOW_FLAG_POINTER || !is_net_flow(packet, packet->record.state))
		return VERDICT_PASSED;
	if (use == FLOW_USE_PROMOTE) {
		/* The node's own keeps its place among the new ones. */
		if (promote_flow() == FLOW_MADE_FULL && packet->record.state & FLOW_FLAG_BY_NET) {
			/* Told as the pod's. */
			plan_translation(packet, 0);
			look_for_hop();
			return VERDICT_CONNTRACK_FULL;
		}
		use = find_flow();
		if (use == FLOW_USE_NONE || use == FLOW_USE_POINTER)
			goto unknown;
	}
	if (use == FLOW_USE_CLOSED) {
		/* Nobody can ask for a tuple that was made for a flow's answers. */
		if (!packet->from_opener && is_translated(packet->record.state))
			return VERDICT_PASSED;
		goto unknown;
	}
	/* What was never let through in this direction: a source that pretends. */
	if (use == FLOW_USE_JUDGE && !packet->from_opener && !may_pass(packet, packet->record.state))
		return VERDICT_PASSED;
	plan_translation(packet, 0);
	if (!(packet->record.state & FLOW_FLAG_BY_NET)) {
		packet->way = WAY_NODE;
		return VERDICT_PASSED;
	}
	look_for_hop();
	packet->way = WAY_POD;
	if (use != FLOW_USE_JUDGE)
		return VERDICT_PASSED;
	packet->is_old = may_pass(packet, packet->record.state);
	/* The address has moved: whoever has it now asks the programs there. */
	if (packet->hop.kind != HOP_KIND_POD) {
		packet->way = WAY_STACK;
		return VERDICT_PASSED;
	}
	/* (Of who was asked, too: a SYN asks.) */
	verdict = judge_net_in(skb, packet);
	if (verdict == VERDICT_PASSED && packet->from_opener && packet->legs & ~packet->record.state) {
		packet->task = FLOW_TASK_ALLOW;
		find_flow();
	}
	return verdict;
unknown:
	return open_net_in(skb, packet, use == FLOW_USE_CLOSED);
}

/*
 * Of what the stack must see, and of what isn't tracked, only what is translated is handled here: whether
 * this is.
 */
__noinline int find_exception(void)
{
	struct packet *packet = this_packet();

	if (!packet)
		return 0;
	packet->quoted.tuple = packet->headers.tuple;
	packet->task = FLOW_TASK_LOOK;
	if (find_flow() != FLOW_USE_OK)
		return 0;
	packet->task = FLOW_TASK_USE;
	return is_translated(packet->record.state) && is_net_flow(packet, packet->record.state);
}

/* Notes in the record which slot the receiver has, for established-net.h. */
static __always_inline void note_receiver(const struct packet *packet)
{
	__u32 receiver = packet->sender ? 0 : 1;
	struct flow_record *element;

	if (packet->translation != TRANSLATION_NONE || packet->via_pointer || packet->headers.is_error ||
	    !has_ports(packet->headers.tuple.protocol) || packet->record.slot[receiver] == packet->hop.slot)
		return;
	element = answered_element(&packet->key);
	/* What another flow's element gets here by a race, it doesn't believe. */
	if (element)
		*(volatile __u32 *)&element->slot[receiver] = packet->hop.slot;
}

/* Whether a router cuts the packet where it is too long. */
static __always_inline int may_be_cut(struct __sk_buff *skb)
{
#if FAMILY == 4
	__be16 fragment;

	return bpf_skb_load_bytes(skb, ETH_HLEN + __builtin_offsetof(struct ipv4_header, fragment), &fragment,
				  sizeof(fragment)) == 0 &&
	       !(fragment & bpf_htons(IP_DONT_FRAGMENT));
#else
	return 0;
#endif
}

/*
 * Changes it, and gives it to the pod of packet->hop: packet->way. What can't go past the stack goes by it,
 * and the stack says so to the sender; but of what is translated it would say what nobody understands.
 */
__noinline int send_to_pod(struct __sk_buff *skb)
{
	struct packet *packet = this_packet();
	int redirect, is_plain;
	enum verdict verdict;
	__u32 mtu = 0;

	if (!packet)
		return VERDICT_REWRITE;
	packet->way = WAY_STACK;
	is_plain = packet->translation == TRANSLATION_NONE;
	redirect =
	    !packet->via_stack && packet->hop.kind == HOP_KIND_POD && device_announced(packet->hop.ifindex);
	if (redirect && packet->headers.hops <= 1)
		return is_plain ? VERDICT_PASSED : refuse_net(skb, VERDICT_HOP_LIMIT, REFUSAL_HOPS, 0);
	if (redirect && !fits_device(skb, packet->hop.ifindex, &mtu)) {
		if (is_plain)
			return VERDICT_PASSED;
		if (mtu && !may_be_cut(skb))
			return refuse_net(skb, VERDICT_FRAGMENT, REFUSAL_TOO_BIG, mtu);
		redirect = 0;
	}
	if (!is_plain) {
		verdict = rewrite_planned(skb, packet);
		if (verdict != VERDICT_PASSED)
			return verdict;
	}
	if (!redirect)
		return VERDICT_PASSED;
	verdict = forward_to_pod(skb, packet);
	if (packet->way == WAY_POD)
		note_receiver(packet);
	return verdict;
}

/*
 * An answer of a Service, or an error about what was sent to one: as it was asked for, and by the device by
 * which that was, if it is another one (packet->hop.ifindex, and packet->way is NODE).
 */
__noinline int send_to_node(struct __sk_buff *skb)
{
	struct packet *packet = this_packet();
	enum verdict verdict;
	__u32 ifindex;

	if (!packet)
		return VERDICT_REWRITE;
	packet->way = WAY_STACK;
	verdict = rewrite_planned(skb, packet);
	if (verdict != VERDICT_PASSED)
		return verdict;
	/* Errors come from routers. */
	if (packet->headers.is_error)
		return VERDICT_PASSED;
	route_back(packet, &packet->headers.tuple);
	ifindex = uplink_to(skb, packet);
	if (ifindex && ifindex != skb->ifindex) {
		packet->hop.ifindex = ifindex;
		packet->way = WAY_NODE;
	}
	return VERDICT_PASSED;
}

/* A packet that comes by an uplink: VERDICT_PASSED, and packet->way, or why it is dropped. */
__noinline int packet_net_in(struct __sk_buff *skb)
{
	struct packet *packet = this_packet();
	enum verdict verdict;

	if (!packet)
		return VERDICT_PASSED;
	begin_packet(skb, packet, PLACE_NET_IN);
	packet->hop.ifindex = 0;
	/* What is wrong with it the stack finds, and the pod's program. */
	if (parse_headers(skb, ETH_HLEN, 0, &packet->headers) != VERDICT_PASSED)
		return VERDICT_PASSED;
	if (is_link_talk(&packet->headers, 0) || is_unheard(packet))
		return VERDICT_PASSED;
	if (packet->headers.fragment == FRAGMENT_KIND_LATER &&
	    recall_fragment(&packet->headers) != VERDICT_PASSED)
		return VERDICT_PASSED;
	if (packet->headers.is_error) {
		if (!is_related(skb))
			return VERDICT_PASSED;
		packet->task = FLOW_TASK_USE;
		if (packet->record.state & FLOW_FLAG_BY_NET)
			packet->way = WAY_POD;
		/* It quotes what the node sent. */
		else if (is_own_service(packet->record.state) && packet->from_opener && !packet->via_pointer)
			packet->way = WAY_NODE;
		else
			return VERDICT_PASSED;
		packet->via_stack = is_exception(&packet->headers) || !is_direct(skb->ifindex);
		plan_translation(packet, 1);
		if ((packet->via_stack || is_untracked(skb)) && packet->translation == TRANSLATION_NONE)
			packet->way = WAY_STACK;
		else
			look_for_hop();
		verdict = VERDICT_PASSED;
	} else {
		packet->via_stack = is_exception(&packet->headers) || !is_direct(skb->ifindex);
		if ((packet->via_stack || is_untracked(skb)) && !find_exception())
			return VERDICT_PASSED;
		verdict = flow_net_in(skb);
	}
	if (verdict != VERDICT_PASSED)
		return verdict;
	/* Netfilter has seen what this answers. */
	if (packet->translation != TRANSLATION_NONE)
		skb->mark &= ~pod_config.mark_untracked;
	if (packet->way == WAY_NODE)
		return packet->translation == TRANSLATION_NONE ? VERDICT_PASSED : send_to_node(skb);
	return packet->way == WAY_POD ? send_to_pod(skb) : VERDICT_PASSED;
}

/* What becomes of a packet that packet_net_in has seen, for tc; and counts it, if the pod's program won't. */
static __always_inline int dispatch_net_in(struct __sk_buff *skb, enum verdict verdict)
{
	/* Volatile: clang may choose between two addresses, and the context has to be read by its own. */
	__u32 device = *(volatile __u32 *)&skb->ifindex;
	struct packet *packet = this_packet();
	const struct host_slot *uplink;

	if (!packet)
		return TC_ACT_UNSPEC;
	if (packet->has_hop && packet->hop.kind == HOP_KIND_POD)
		device = packet->hop.ifindex;
	if (verdict != VERDICT_PASSED) {
		count_on(device, packet->length, DIRECTION_TO_POD, verdict);
		if (verdict != VERDICT_POLICY)
			tell(device, DIRECTION_TO_POD, verdict, 0);
		/* Out by where it came from: the refusal has the frame's MACs the other way round. */
		return packet->way == WAY_BACK ? bpf_redirect(skb->ifindex, 0) : TC_ACT_SHOT;
	}
	if (packet->way == WAY_POD) {
		count_on(device, packet->length, DIRECTION_TO_POD, VERDICT_PASSED);
		return redirect_into_pod(skb, packet->hop.ifindex);
	}
	if (packet->way == WAY_NODE && packet->hop.ifindex) {
		uplink = uplink_at(packet->hop.ifindex);
		if (uplink)
			return give_to_uplink(skb, packet->hop.ifindex, uplink->mac);
	}
	return TC_ACT_UNSPEC;
}

#endif
