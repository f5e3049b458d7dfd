/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What the node itself asks of Services, at the uplink by which it would leave: docs/design/ebpf-net.md. For
 * one family (see family.h).
 *
 *	parse - [ICMP error: related?] - record - [new: service, record] - translate - send
 *
 * What isn't that goes on: host endpoints have a word there. So does what pods send by the stack: it is only
 * noted that a flow is the stack's.
 */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include "consts.h"
#include "maps.h"
#include "counters.h"
#include "packet.h"
#include "icmp.h"
#include "track.h"
#include "service.h"
#include "fragment.h"
#include "known.h"
#include "net.h"

#if (FAMILY == 4 && !defined(TORTIE_NET_OUT4_H)) || (FAMILY == 6 && !defined(TORTIE_NET_OUT6_H))
#if FAMILY == 4
#define TORTIE_NET_OUT4_H
#else
#define TORTIE_NET_OUT6_H
#endif

#ifndef TORTIE_NET_OUT_H
#define TORTIE_NET_OUT_H

#define is_asked_by_node OF_FAMILY(is_asked_by_node)
#define is_masqueraded_as OF_FAMILY(is_masqueraded_as)
#define choose_own_backend OF_FAMILY(choose_own_backend)
#define open_net_out OF_FAMILY(open_net_out)
#define flow_net_out OF_FAMILY(flow_net_out)
#define send_own OF_FAMILY(send_own)
#define packet_net_out OF_FAMILY(packet_net_out)
#define dispatch_net_out OF_FAMILY(dispatch_net_out)
#define note_translated OF_FAMILY(note_translated)

#endif

/*
 * Whether the packet is one that the node sends to a Service, or the answer of a process of the node's to
 * one that did: see choose_own_backend.
 */
static __always_inline int is_asked_by_node(const struct packet *packet, __u64 state)
{
	return is_own_service(state) &&
	       (packet->from_opener ? packet->via_pointer : !packet->via_pointer && state & FLOW_FLAG_SOURCE);
}

/* Whether the packet, which the node sends of itself, opens a flow that has the tuple of a pod's. */
static __always_inline int is_masqueraded_as(const struct packet *packet, __u64 state)
{
	const __u64 both = FLOW_FLAG_BY_NET | FLOW_FLAG_SOURCE;
	__u8 protocol = packet->headers.tuple.protocol;

	return (state & both) == both && packet->from_opener && !packet->via_pointer &&
	       (protocol == PROTOCOL_UDP || is_syn(protocol, packet->headers.tcp_flags));
}

/*
 * Who answers, if the packet is for a Service: packet->to, and in packet->legs the flags of its record; none:
 * it isn't, or nobody here can send it there.
 */
__noinline int choose_own_backend(struct __sk_buff *skb)
{
	struct packet *packet = this_packet();
	const struct flow_tuple *asked;
	int answer;

	if (!packet)
		return VERDICT_PASSED;
	asked = &packet->headers.tuple;
	packet->legs = 0;
	packet->to = *asked;
	answer = find_backend(asked, &packet->backend);
	/* What is in the midst of a flow was somebody else's. */
	if (answer == SERVICE_ANSWER_NO_FRONTEND ||
	    (asked->protocol == PROTOCOL_TCP && !is_syn(asked->protocol, packet->headers.tcp_flags)))
		return VERDICT_PASSED;
	if (answer == SERVICE_ANSWER_SCTP_PORT)
		return VERDICT_SCTP_PORT;
	if (answer == SERVICE_ANSWER_UNSTABLE)
		return VERDICT_NO_BACKEND;
	if (answer != SERVICE_ANSWER_BACKEND)
		return refuse_net(skb, VERDICT_NO_BACKEND, REFUSAL_PORT, 0);
	__builtin_memcpy(packet->to.destination, packet->backend.address, ADDRESS_BYTES);
	packet->to.destination_port = packet->backend.port;
	look_for_hop();
	switch (packet->hop.kind) {
	case HOP_KIND_POD:
		/* The node reaches its own pods, whatever their policy says, and its host endpoints': as
		 * itself, not with the address of others. */
		if (pod_config.mark_host && (skb->mark & pod_config.mark_host) == pod_config.mark_host)
			packet->legs = FLOW_FLAG_INGRESS_OK | FLOW_FLAG_HOST_EGRESS;
		break;
	case HOP_KIND_HOST:
		/* A process of the node's own, which takes nothing from an address of the node by a device:
		 * from the Service's then, the port as it is. Its answers come by here, too. */
		__builtin_memcpy(packet->to.source, asked->destination, ADDRESS_BYTES);
		packet->legs = FLOW_FLAG_SOURCE | FLOW_FLAG_HOST_EGRESS;
		break;
	default:
		packet->routed = packet->to;
		if (!uplink_to(skb, packet))
			return VERDICT_PASSED;
		break;
	}
	packet->legs |= FLOW_FLAG_OF_HOST | FLOW_FLAG_DESTINATION | FLOW_FLAG_VIA_STACK;
	packet->translation = TRANSLATION_PACKET;
	return VERDICT_PASSED;
}

/* A flow of which nothing is known. packet->translation is NONE if it is nothing for us. */
__noinline int open_net_out(struct __sk_buff *skb)
{
	struct packet *packet = this_packet();
	enum verdict verdict;

	if (!packet)
		return VERDICT_PASSED;
	packet->from_opener = 1;
	packet->via_pointer = 0;
	verdict = choose_own_backend(skb);
	if (verdict != VERDICT_PASSED || packet->translation == TRANSLATION_NONE)
		return verdict;
	/* What another CPU has made meanwhile, the next packet finds. */
	return make_flow(packet->legs) == FLOW_MADE_OK ? VERDICT_PASSED : VERDICT_CONNTRACK_FULL;
}

/* Which flow it is of. */
__noinline int flow_net_out(struct __sk_buff *skb)
{
	struct packet *packet = this_packet();
	int use;

	if (!packet)
		return VERDICT_PASSED;
	use = find_flow();
	if (use == FLOW_USE_NONE || use == FLOW_USE_POINTER)
		return open_net_out(skb);
	if (!is_asked_by_node(packet, packet->record.state)) {
		/* A socket of the node's has a port now that a pod's flow was given: the answers are its
		 * own, and the pod's next packet gets another port. */
		if (is_masqueraded_as(packet, packet->record.state))
			forget_flow();
		return VERDICT_PASSED;
	}
	if (use == FLOW_USE_CLOSED) {
		forget_flow();
		return open_net_out(skb);
	}
	/* Who asks is told the same answer: nobody judges the node. */
	if (use == FLOW_USE_PROMOTE)
		promote_flow();
	if (use != FLOW_USE_OK) {
		packet->task = FLOW_TASK_ALLOW;
		find_flow();
	}
	plan_translation(packet, 0);
	look_for_hop();
	return VERDICT_PASSED;
}

/*
 * Translates it, and sends it on its way: packet->way is POD (of packet->hop), NODE (by this uplink), or NET
 * (by packet->route).
 */
__noinline int send_own(struct __sk_buff *skb)
{
	struct packet *packet = this_packet();
	const struct pod_slot *pod;
	enum verdict verdict;
	enum way way = WAY_NET;
	__u32 slot, ifindex, mtu = 0;

	if (!packet)
		return VERDICT_REWRITE;
	slot = packet->hop.slot;
	ifindex = packet->hop.ifindex;
	if (packet->hop.kind == HOP_KIND_POD) {
		way = WAY_POD;
		if (!device_announced(ifindex))
			return VERDICT_NOT_ANNOUNCED;
	} else if (packet->hop.kind == HOP_KIND_HOST) {
		way = WAY_NODE;
	} else {
		/* Errors go to who sent what they quote. */
		if (packet->translation == TRANSLATION_ERROR)
			route_back(packet, &packet->to);
		else
			packet->routed = packet->to;
		ifindex = uplink_to(skb, packet);
		if (!ifindex)
			return VERDICT_NO_BACKEND;
	}
	if (way != WAY_NODE && !fits_device(skb, ifindex, &mtu))
		return refuse_net(skb, VERDICT_FRAGMENT, REFUSAL_TOO_BIG, mtu);
	verdict = rewrite_planned(skb, packet);
	if (verdict != VERDICT_PASSED)
		return verdict;
	if (way == WAY_POD) {
		pod = bpf_map_lookup_elem(&tortie_pods, &slot);
		if (!pod || pod->ifindex != ifindex)
			return VERDICT_NOT_ANNOUNCED;
		verdict = set_macs(skb, pod->pod_mac, pod->host_mac);
		if (verdict != VERDICT_PASSED)
			return verdict;
	}
	packet->way = way;
	return VERDICT_PASSED;
}

/* A packet that goes out by an uplink: VERDICT_PASSED, and packet->way (STACK: it goes on), or why it is
 * dropped. */
__noinline int packet_net_out(struct __sk_buff *skb)
{
	struct packet *packet = this_packet();
	enum verdict verdict;

	if (!packet)
		return VERDICT_PASSED;
	begin_packet(skb, packet, PLACE_NET_OUT);
	/* What is wrong with it others find. */
	if (parse_headers(skb, ETH_HLEN, 0, &packet->headers) != VERDICT_PASSED)
		return VERDICT_PASSED;
	if (is_unheard(packet))
		return VERDICT_PASSED;
	if (packet->headers.fragment == FRAGMENT_KIND_LATER &&
	    recall_fragment(&packet->headers) != VERDICT_PASSED)
		return VERDICT_PASSED;
	if (packet->headers.is_error) {
		if (!is_related(skb) || !is_own_service(packet->record.state) || packet->from_opener ||
		    !packet->via_pointer)
			return VERDICT_PASSED;
		plan_translation(packet, 1);
		look_for_hop();
	} else {
		if (!has_ports(packet->headers.tuple.protocol))
			return VERDICT_PASSED;
		verdict = flow_net_out(skb);
		if (verdict != VERDICT_PASSED)
			return verdict;
	}
	return packet->translation == TRANSLATION_NONE ? VERDICT_PASSED : send_own(skb);
}

/* What becomes of a packet that packet_net_out has seen, for tc; GO_ON: it is host endpoints'. */
static __always_inline int dispatch_net_out(struct __sk_buff *skb, enum verdict verdict)
{
	struct packet *packet = this_packet();
	const struct host_slot *uplink;

	if (!packet)
		return GO_ON;
	if (verdict != VERDICT_PASSED) {
		count_on(skb->ifindex, packet->length, DIRECTION_FROM_POD, verdict);
		tell(skb->ifindex, DIRECTION_FROM_POD, verdict, 0);
	}
	if (packet->way == WAY_BACK || packet->way == WAY_NODE) {
		/* The stack takes the frame for one that came by the uplink. */
		uplink = uplink_at(skb->ifindex);
		return uplink ? give_to_uplink(skb, skb->ifindex, uplink->mac) : TC_ACT_SHOT;
	}
	if (verdict != VERDICT_PASSED)
		return TC_ACT_SHOT;
	switch (packet->way) {
	case WAY_POD:
		return bpf_redirect(packet->hop.ifindex, 0);
	case WAY_NET:
		return send_by(&packet->route);
	default:
		return GO_ON;
	}
}

/*
 * A packet that a pod's program has given to the stack. What netfilter has translated (kube-proxy: a node
 * port, a load balancer's address) leaves with a tuple that no record has. It gets one, so that
 * what is answered isn't taken for a flow to the pod, but goes to the stack, which translates it back (of
 * TCP flags tell an answer). Nobody has judged a leg of it: if the pod sends there itself, it is asked for.
 * Host endpoints' policy for what is forwarded was asked by the pod's program.
 */
__noinline int note_translated(struct __sk_buff *skb)
{
	const __u64 noted = FLOW_FLAG_VIA_STACK | FLOW_LEGS_OF_PODS | FLOW_FLAG_OF_HOST;
	struct packet *packet = this_packet();
	const struct flow_tuple *tuple;
	const struct hop *from;

	if (!packet)
		return 0;
	begin_packet(skb, packet, PLACE_NET_OUT);
	tuple = &packet->headers.tuple;
	if (parse_headers(skb, ETH_HLEN, 0, &packet->headers) != VERDICT_PASSED || packet->headers.is_error ||
	    packet->headers.fragment == FRAGMENT_KIND_LATER || tuple->protocol == PROTOCOL_TCP ||
	    !has_ports(tuple->protocol))
		return 0;
	/* What is masqueraded is the node's. Flows of the other dataplane come with their records. */
	from = hop_of(tuple->source);
	if (!from || from->kind != HOP_KIND_POD || handover_of(run_state()))
		return 0;
	packet->quoted.tuple = *tuple;
	packet->task = FLOW_TASK_LOOK;
	if (find_flow() != FLOW_USE_OK) {
		packet->to = *tuple;
		packet->from_opener = 1;
		packet->via_pointer = 0;
		make_flow(FLOW_FLAG_VIA_STACK | FLOW_FLAG_FORWARD_OK);
	} else if ((packet->record.state & noted) == FLOW_FLAG_VIA_STACK && packet->from_opener) {
		/* Its answers don't touch it: they may be from who pretends. */
		packet->legs = 0;
		packet->task = FLOW_TASK_ALLOW;
		find_flow();
	}
	return 0;
}

#endif
