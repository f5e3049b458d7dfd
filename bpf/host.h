/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What comes in and goes out by a device with a host endpoint: docs/design/ebpf-hosts.md. For one family (see
 * family.h).
 *
 *	in:  parse - untracked - [ICMP error: related?] - record - [new: preDNAT, ordinary, record] - marks
 *	out: parse - [own: untracked] - [ICMP error: related?] - record - [new: ordinary or forward, record]
 */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include "consts.h"
#include "maps.h"
#include "packet.h"
#include "icmp.h"
#include "track.h"
#include "judge.h"
#include "service.h"
#include "fragment.h"
#include "related.h"

#if (FAMILY == 4 && !defined(TORTIE_HOST4_H)) || (FAMILY == 6 && !defined(TORTIE_HOST6_H))
#if FAMILY == 4
#define TORTIE_HOST4_H
#else
#define TORTIE_HOST6_H
#endif

#ifndef TORTIE_HOST_H
#define TORTIE_HOST_H

#define is_host_link_talk OF_FAMILY(is_host_link_talk)
#define judge_untracked OF_FAMILY(judge_untracked)
#define has_socket OF_FAMILY(has_socket)
#define hop_of_destination OF_FAMILY(hop_of_destination)
#define judge_host_in OF_FAMILY(judge_host_in)
#define judge_host_out OF_FAMILY(judge_host_out)
#define is_translated_answer OF_FAMILY(is_translated_answer)
#define find_host_flow OF_FAMILY(find_host_flow)
#define know_host_flow OF_FAMILY(know_host_flow)
#define open_host_flow OF_FAMILY(open_host_flow)
#define host_flow OF_FAMILY(host_flow)
#define host_in OF_FAMILY(host_in)
#define host_out OF_FAMILY(host_out)

/* netinet/tcp.h */
#define TCP_CLOSE 7
#define TCP_LISTEN 10

static __always_inline __u32 ifindex_of(const struct __sk_buff *skb)
{
	return skb->ifindex;
}

#endif

/* What belongs to the link, and no policy judges: see LINK_ICMP6_TYPES of the iptables dataplane. */
static __always_inline int is_host_link_talk(const struct flow_headers *headers)
{
	return is_link_talk(headers, 0) && headers->tuple.destination_port >> 8 != ICMPV6_REDIRECT;
}

/* Untracked policy on packet->judged, `kind` HOST_UNIT_UNTRACKED, with OUT for egress. */
static __always_inline enum rule_action judge_untracked(struct packet *packet, __u32 ifindex, __u32 kind)
{
	__u32 slot = packet->host, index = kind + (FAMILY == 6 ? HOST_UNIT_IPV6 : 0);
	const struct host_slot *host = bpf_map_lookup_elem(&tortie_hosts, &slot);

	/* Asked for every packet: most host endpoints have none. */
	if (!host || !*(const volatile __u32 *)&host->unit[index])
		return RULE_ACTION_UNDECIDED;
	if (is_failsafe(kind & HOST_UNIT_OUT ? FAILSAFE_OUT : FAILSAFE_IN, 1))
		return RULE_ACTION_UNDECIDED;
	return judge_host(slot, ifindex, kind, ifindex);
}

/* Whether a socket of the node has the connection that packet->judged is of: it is older than its record. */
__noinline int has_socket(struct __sk_buff *skb)
{
	struct packet *packet = this_packet();
	struct bpf_sock_tuple tuple = {};
	const struct flow_tuple *judged;
	struct bpf_sock *socket;
	__u32 state;
	int is_out;

	if (!packet)
		return 0;
	judged = &packet->judged;
	is_out = packet->place != PLACE_HOST_IN;
	/* As of a packet that the socket gets. */
#if FAMILY == 4
	__builtin_memcpy(&tuple.ipv4.saddr, is_out ? judged->destination : judged->source, 4);
	__builtin_memcpy(&tuple.ipv4.daddr, is_out ? judged->source : judged->destination, 4);
	tuple.ipv4.sport = bpf_htons(is_out ? judged->destination_port : judged->source_port);
	tuple.ipv4.dport = bpf_htons(is_out ? judged->source_port : judged->destination_port);
	socket = bpf_skc_lookup_tcp(skb, &tuple, sizeof(tuple.ipv4), BPF_F_CURRENT_NETNS, 0);
#else
	__builtin_memcpy(tuple.ipv6.saddr, is_out ? judged->destination : judged->source, 16);
	__builtin_memcpy(tuple.ipv6.daddr, is_out ? judged->source : judged->destination, 16);
	tuple.ipv6.sport = bpf_htons(is_out ? judged->destination_port : judged->source_port);
	tuple.ipv6.dport = bpf_htons(is_out ? judged->source_port : judged->destination_port);
	socket = bpf_skc_lookup_tcp(skb, &tuple, sizeof(tuple.ipv6), BPF_F_CURRENT_NETNS, 0);
#endif
	if (!socket)
		return 0;
	state = socket->state;
	bpf_sk_release(socket);
	/* One that listens is found where there is no connection. */
	return state != TCP_LISTEN && state != TCP_CLOSE;
}

/* What is known of the destination: enum hop_kind. */
__noinline int hop_of_destination(void)
{
	struct packet *packet = this_packet();
	struct address_info info = {};
	const struct hop *hop;

	if (!packet)
		return HOP_KIND_NONE;
	find_address(packet->judged.destination, &info);
	hop = info.hop ? bpf_map_lookup_elem(&tortie_hops, &info.hop) : NULL;
	return hop ? hop->kind : HOP_KIND_NONE;
}

/*
 * A flow that comes in. preDNAT policy may refuse it. Ordinary policy may not: netfilter may translate the
 * packet, and it is forwarded; so what it refuses gets HOST_INGRESS not, and with that a mark.
 */
__noinline int judge_host_in(struct __sk_buff *skb)
{
	struct packet *packet = this_packet();
	__u32 ifindex = ifindex_of(skb);
	enum rule_action action;
	int hop, is_safe;

	if (!packet)
		return VERDICT_POLICY;
	packet->legs = 0;
	is_safe = is_failsafe(FAILSAFE_IN, 0);
	if (!is_safe) {
		action = judge_host(packet->host, ifindex, HOST_UNIT_PRE_DNAT, ifindex);
		if (action == RULE_ACTION_DENY)
			return VERDICT_POLICY;
		packet->pre_accepted = action == RULE_ACTION_ALLOW;
	}
	if (packet->pre_accepted)
		packet->legs = FLOW_FLAG_PRE_ACCEPTED;
	hop = hop_of_destination();
	packet->has_hop = 1;
	packet->hop.kind = hop;
	/* Certainly not for the node: policy for it has nothing to say. */
	if (hop == HOP_KIND_POD || hop == HOP_KIND_STACK)
		return VERDICT_PASSED;
	if (is_safe || packet->pre_accepted ||
	    judge_host(packet->host, ifindex,
		       HOST_UNIT_ORDINARY | (hop == HOP_KIND_HOST ? 0 : HOST_UNIT_SILENT),
		       ifindex) != RULE_ACTION_DENY)
		packet->legs |= FLOW_FLAG_HOST_INGRESS;
	return VERDICT_PASSED;
}

/* A flow that goes out: the node's own by ordinary policy, forwarded by that of both devices. */
__noinline int judge_host_out(struct __sk_buff *skb)
{
	struct packet *packet = this_packet();
	__u32 ifindex = ifindex_of(skb), from;

	if (!packet)
		return VERDICT_POLICY;
	packet->legs = 0;
	if (packet->place == PLACE_HOST_OUT) {
		if (!is_failsafe(FAILSAFE_OUT, 0) &&
		    judge_host(packet->host, ifindex, HOST_UNIT_ORDINARY + HOST_UNIT_OUT, ifindex) ==
			RULE_ACTION_DENY)
			return VERDICT_POLICY;
		packet->legs = FLOW_FLAG_HOST_EGRESS;
		return VERDICT_PASSED;
	}
	packet->legs = FLOW_FLAG_FORWARD_OK;
	if (packet->place == PLACE_HOST_FROM_POD)
		return VERDICT_PASSED;
	from = skb->ingress_ifindex;
	if (!packet->pre_accepted &&
	    judge_host(host_slot_of(from), from, HOST_UNIT_FORWARD, from) == RULE_ACTION_DENY)
		return VERDICT_POLICY;
	return judge_host(packet->host, ifindex, HOST_UNIT_FORWARD + HOST_UNIT_OUT, ifindex) ==
		       RULE_ACTION_DENY
		   ? VERDICT_POLICY
		   : VERDICT_PASSED;
}

/*
 * Whether netfilter has made the packet an answer of the node's or a Service's address: who asked, asked for
 * that, and what was forwarded has another record.
 */
__noinline int is_translated_answer(void)
{
	struct packet *packet = this_packet();
	struct frontend_key key = {};
	struct address_info info = {};
	const struct hop *hop;
	__u64 frontend = 0;

	if (!packet)
		return 0;
	find_address(packet->headers.tuple.source, &info);
	hop = info.hop ? bpf_map_lookup_elem(&tortie_hops, &info.hop) : NULL;
	if (hop && hop->kind == HOP_KIND_HOST)
		return 1;
	if (!has_ports(packet->headers.tuple.protocol))
		return 0;
	__builtin_memcpy(key.address, packet->headers.tuple.source, ADDRESS_BYTES);
	key.port = packet->headers.tuple.source_port;
	key.protocol = packet->headers.tuple.protocol;
	return find_frontend(&key, &frontend) == FOUND_VALUE;
}

/* Finds the packet's flow. One that is to be promoted keeps its place; if there is no room, the
 * packet passes all the same: where it is a pod's, the pod's program refuses it. */
static __always_inline int find_host_flow(void)
{
	int use = find_flow();

	if (use != FLOW_USE_PROMOTE)
		return use;
	promote_flow();
	use = find_flow();
	return use == FLOW_USE_PROMOTE ? FLOW_USE_OK : use;
}

/* What a record says of the packet besides that it may pass. */
static __always_inline void know_host_flow(struct packet *packet, __u64 state)
{
	packet->legs = state & (FLOW_FLAG_HOST_INGRESS | FLOW_FLAG_HOST_EGRESS);
	packet->not_local = !(state & (packet->from_opener ? FLOW_FLAG_HOST_INGRESS : FLOW_FLAG_HOST_EGRESS));
	if (packet->from_opener && state & FLOW_FLAG_PRE_ACCEPTED)
		packet->pre_accepted = 1;
}

/* A flow of which nothing is known, or (is_over) but that packet->record is over, which who comes in may only
 * pretend: it goes when policy lets the next one in. */
__noinline int open_host_flow(struct __sk_buff *skb, __u32 is_over)
{
	const __u64 both = FLOW_FLAG_HOST_INGRESS | FLOW_FLAG_HOST_EGRESS;
	struct packet *packet = this_packet();
	enum verdict verdict;

	if (!packet)
		return VERDICT_POLICY;
	packet->from_opener = 1;
	packet->via_pointer = 0;
	packet->to = packet->headers.tuple;
	if (packet->headers.tuple.protocol == PROTOCOL_TCP &&
	    !is_syn(PROTOCOL_TCP, packet->headers.tcp_flags) &&
	    (packet->place == PLACE_HOST_IN || packet->place == PLACE_HOST_OUT) && has_socket(skb)) {
		make_flow(both | FLOW_FLAG_VIA_STACK | FLOW_FLAG_ANSWERED | FLOW_FLAG_ESTABLISHED);
		return VERDICT_PASSED;
	}
	verdict = packet->place == PLACE_HOST_IN ? judge_host_in(skb) : judge_host_out(skb);
	if (verdict != VERDICT_PASSED)
		return verdict;
	packet->not_local = !(packet->legs & FLOW_FLAG_HOST_INGRESS);
	/* A pod's program makes a record of what comes to it. */
	if (!keeps_record(&packet->headers.tuple) || answers_nothing(&packet->headers.tuple) ||
	    (packet->place == PLACE_HOST_IN && packet->hop.kind == HOP_KIND_POD))
		return VERDICT_PASSED;
	if (is_over && packet->legs & FLOW_FLAG_HOST_INGRESS)
		forget_flow();
	/* Where there is no room for it, the next packet is judged again. */
	make_flow(packet->legs | FLOW_FLAG_VIA_STACK |
		  (packet->place == PLACE_HOST_OUT ? FLOW_FLAG_OF_HOST : 0));
	return VERDICT_PASSED;
}

/* Which flow it is of, and whether it may pass. */
__noinline int host_flow(struct __sk_buff *skb)
{
	struct packet *packet = this_packet();
	int use, is_ours, is_over;
	enum verdict verdict;

	if (!packet)
		return VERDICT_POLICY;
	use = find_host_flow();
	if (use == FLOW_USE_OK) {
		know_host_flow(packet, packet->record.state);
		return VERDICT_PASSED;
	}
	if (use == FLOW_USE_JUDGE && packet->place == PLACE_HOST_FROM_POD)
		return VERDICT_PASSED;
	/* Whether a pod's flow is over, or another one by now, its own program says, behind policy. */
	is_ours = !(packet->record.state & FLOW_LEGS_OF_PODS);
	if (use != FLOW_USE_JUDGE) {
		is_over = use == FLOW_USE_CLOSED && is_ours;
		/* (A RST and a SYN of who was asked may be made up.) */
		if (is_over && (packet->from_opener || packet->place != PLACE_HOST_IN)) {
			forget_flow();
			is_over = 0;
		}
		return open_host_flow(skb, is_over);
	}
	if (packet->from_opener ||
	    (packet->place != PLACE_HOST_OUT && may_pass(packet, packet->record.state))) {
		packet->is_old = may_pass(packet, packet->record.state);
		verdict = packet->place == PLACE_HOST_IN ? judge_host_in(skb) : judge_host_out(skb);
		if (verdict != VERDICT_PASSED)
			return verdict;
		packet->not_local = !(packet->legs & FLOW_FLAG_HOST_INGRESS);
		/* A SYN of who was asked, which may be made up: the flow stays what it is. */
		if (!packet->from_opener)
			return VERDICT_PASSED;
	} else if (packet->place == PLACE_HOST_FORWARD && is_translated_answer()) {
		packet->legs = FLOW_FLAG_FORWARD_OK;
	} else {
		/* The direction that the record is of was never let through: this is another flow. */
		if (is_ours)
			forget_flow();
		return open_host_flow(skb, 0);
	}
	if (packet->legs & ~packet->record.state) {
		/* Of a pod's flow only that: see use_element. */
		if (!is_ours)
			packet->headers.tcp_flags = 0;
		packet->task = FLOW_TASK_ALLOW;
		find_flow();
	}
	return VERDICT_PASSED;
}

/*
 * A packet that comes in: VERDICT_PASSED, with packet->untracked, pre_accepted, not_local, or why it is
 * dropped. Of a fragment behind the first one nothing is asked: without that one nobody can use it, and what
 * is put together has the first one's mark.
 */
__noinline int host_in(struct __sk_buff *skb, __u32 slot, __u32 l3_offset)
{
	struct packet *packet = this_packet();
	enum rule_action action;
	enum verdict verdict;

	if (!packet)
		return VERDICT_REWRITE;
	begin_packet(skb, packet, PLACE_HOST_IN);
	packet->host = slot;
	verdict = parse_headers(skb, l3_offset, 0, &packet->headers);
	if (verdict != VERDICT_PASSED)
		return verdict;
	if (is_host_link_talk(&packet->headers) || packet->headers.fragment == FRAGMENT_KIND_LATER)
		return VERDICT_PASSED;
	packet->judged = packet->headers.tuple;
	action = judge_untracked(packet, ifindex_of(skb), HOST_UNIT_UNTRACKED);
	if (action == RULE_ACTION_DENY)
		return VERDICT_POLICY;
	packet->untracked = action == RULE_ACTION_ALLOW;
	if (packet->untracked)
		return VERDICT_PASSED;
	if (packet->headers.is_error && is_related(skb)) {
		packet->not_local =
		    !(packet->record.state & (FLOW_FLAG_HOST_INGRESS | FLOW_FLAG_HOST_EGRESS));
		return VERDICT_PASSED;
	}
	packet->task = FLOW_TASK_USE;
	return packet->headers.is_error ? open_host_flow(skb, 0) : host_flow(skb);
}

/* A packet that goes out: VERDICT_PASSED or why it is dropped. */
__noinline int host_out(struct __sk_buff *skb, __u32 slot, __u32 l3_offset)
{
	struct packet *packet = this_packet();
	enum place place = PLACE_HOST_FORWARD;
	enum rule_action action;
	enum verdict verdict;

	if (!packet)
		return VERDICT_REWRITE;
	/* A tunnel's packet has the device and the marks of what it carries, and is the node's all the same.
	 */
	if (!skb->ingress_ifindex || skb->mark & pod_config.mark_host)
		place = PLACE_HOST_OUT;
	else if (skb->mark & pod_config.mark_seen)
		place = PLACE_HOST_FROM_POD;
	begin_packet(skb, packet, place);
	packet->host = slot;
	packet->pre_accepted = place == PLACE_HOST_FORWARD && skb->mark & pod_config.mark_pre_accepted;
	verdict = parse_headers(skb, l3_offset, 0, &packet->headers);
	if (verdict != VERDICT_PASSED)
		return verdict;
	if (is_host_link_talk(&packet->headers))
		return VERDICT_PASSED;
	if (packet->headers.fragment == FRAGMENT_KIND_LATER) {
		verdict = recall_fragment(&packet->headers);
		/* What the node itself sends is in order; the rest may not be, and is nothing without the
		 * first one. */
		if (verdict != VERDICT_PASSED)
			return place == PLACE_HOST_OUT ? verdict : VERDICT_PASSED;
	}
	packet->judged = packet->headers.tuple;
	if (place == PLACE_HOST_OUT) {
		action = judge_untracked(packet, ifindex_of(skb), HOST_UNIT_UNTRACKED + HOST_UNIT_OUT);
		if (action == RULE_ACTION_DENY)
			return VERDICT_POLICY;
		packet->untracked = action == RULE_ACTION_ALLOW;
	}
	if (!packet->untracked && !(packet->headers.is_error && is_related(skb))) {
		packet->task = FLOW_TASK_USE;
		verdict = packet->headers.is_error ? open_host_flow(skb, 0) : host_flow(skb);
		if (verdict != VERDICT_PASSED)
			return verdict;
	}
	if (packet->headers.fragment == FRAGMENT_KIND_FIRST)
		remember_fragment(&packet->headers);
	return VERDICT_PASSED;
}

#endif
