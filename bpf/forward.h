/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Where a pod's packet goes, and what host endpoints say of what goes through the node:
 * docs/design/ebpf-hosts.md. For one family (see family.h).
 */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>
#include "consts.h"
#include "maps.h"
#include "packet.h"
#include "judge.h"

#if (FAMILY == 4 && !defined(TORTIE_FORWARD4_H)) || (FAMILY == 6 && !defined(TORTIE_FORWARD6_H))
#if FAMILY == 4
#define TORTIE_FORWARD4_H
#else
#define TORTIE_FORWARD6_H
#endif

#ifndef TORTIE_FORWARD_H
#define TORTIE_FORWARD_H

#define look_for_hop OF_FAMILY(look_for_hop)
#define find_egress_device OF_FAMILY(find_egress_device)
#define forward_refused OF_FAMILY(forward_refused)
#define forward_out OF_FAMILY(forward_out)
#define forward_in OF_FAMILY(forward_in)
#define judge_pre_dnat OF_FAMILY(judge_pre_dnat)

/* sys/socket.h. */
#define AF_INET 2
#define AF_INET6 10

#endif

/* The next hop of where the packet goes. */
__noinline int look_for_hop(void)
{
	struct packet *packet = this_packet();
	struct address_info info = {};
	const struct hop *hop;

	if (!packet)
		return 0;
	packet->has_hop = 1;
	packet->hop.kind = HOP_KIND_NONE;
	/* An error goes to the sender of what it quotes. */
	if (packet->headers.is_error)
		find_address(packet->to.source, &info);
	else
		find_address(packet->to.destination, &info);
	if (!info.hop)
		return 0;
	hop = bpf_map_lookup_elem(&tortie_hops, &info.hop);
	if (hop)
		packet->hop = *hop;
	return 0;
}

/* The device by which the stack would forward packet->to; 0: it has no way. */
__noinline int find_egress_device(struct __sk_buff *skb)
{
	struct packet *packet = this_packet();
	struct bpf_fib_lookup route = {};
	long answer;

	if (!packet)
		return 0;
	route.family = FAMILY == 4 ? AF_INET : AF_INET6;
	route.ifindex = skb->ifindex;
	route.l4_protocol = packet->to.protocol;
	if (has_ports(packet->to.protocol)) {
		route.sport = bpf_htons(packet->to.source_port);
		route.dport = bpf_htons(packet->to.destination_port);
	}
	__builtin_memcpy(FAMILY == 4 ? (void *)&route.ipv4_src : (void *)route.ipv6_src, packet->to.source,
			 ADDRESS_BYTES);
	__builtin_memcpy(FAMILY == 4 ? (void *)&route.ipv4_dst : (void *)route.ipv6_dst,
			 packet->to.destination, ADDRESS_BYTES);
	answer = bpf_fib_lookup(skb, &route, sizeof(route), 0);
	/* The route is all that is asked for: not whether the neighbour is known, nor whether the packet
	 * fits. */
	return answer == BPF_FIB_LKUP_RET_SUCCESS || answer == BPF_FIB_LKUP_RET_NO_NEIGH ||
		       answer == BPF_FIB_LKUP_RET_FRAG_NEEDED
		   ? route.ifindex
		   : 0;
}

/* Whether a host endpoint refuses what is forwarded. `kind`: HOST_UNIT_FORWARD, with OUT for egress. */
static __always_inline int forward_refused(__u32 slot, __u32 owner, __u32 kind, __u32 ifindex)
{
	return slot && judge_host(slot, owner, kind, ifindex) == RULE_ACTION_DENY;
}

/* Host endpoints' word on what a pod sends through the node; what it sends to the node isn't forwarded. */
static __always_inline enum verdict forward_out(struct __sk_buff *skb, struct packet *packet, int is_local)
{
	const struct run_state *run = run_state();
	__u32 pods = run ? *(const volatile __u32 *)&run->pods_host : 0;
	__u32 egress = run ? *(const volatile __u32 *)&run->forward_egress : 0;
	__u32 ifindex = skb->ifindex;

	if (!pods && (!egress || is_local))
		return VERDICT_PASSED;
	if (!packet->has_hop)
		look_for_hop();
	if (packet->hop.kind == HOP_KIND_HOST)
		return VERDICT_PASSED;
	if (!packet->pre_accepted && forward_refused(pods, 0, HOST_UNIT_FORWARD, ifindex))
		return VERDICT_POLICY;
	if (is_local)
		return forward_refused(pods, 0, HOST_UNIT_FORWARD + HOST_UNIT_OUT, packet->hop.ifindex)
			   ? VERDICT_POLICY
			   : VERDICT_PASSED;
	if (!egress)
		return VERDICT_PASSED;
	ifindex = find_egress_device(skb);
	return forward_refused(host_slot_of(ifindex), ifindex, HOST_UNIT_FORWARD + HOST_UNIT_OUT, ifindex)
		   ? VERDICT_POLICY
		   : VERDICT_PASSED;
}

/* Theirs on what the stack forwards to a pod. */
static __always_inline enum verdict forward_in(struct __sk_buff *skb, struct packet *packet)
{
	const struct run_state *run = run_state();
	__u32 device = skb->ingress_ifindex;

	if (!run)
		return VERDICT_PASSED;
	if (*(const volatile __u32 *)&run->forward_ingress && !(skb->mark & pod_config.mark_pre_accepted) &&
	    forward_refused(host_slot_of(device), device, HOST_UNIT_FORWARD, device))
		return VERDICT_POLICY;
	return forward_refused(*(const volatile __u32 *)&run->pods_host, 0, HOST_UNIT_FORWARD + HOST_UNIT_OUT,
			       skb->ifindex)
		   ? VERDICT_POLICY
		   : VERDICT_PASSED;
}

/* preDNAT policy's on what a pod asks for, where the pods' devices have a host endpoint. */
static __always_inline enum verdict judge_pre_dnat(struct __sk_buff *skb, struct packet *packet)
{
	const struct run_state *run = run_state();
	__u32 pods = run ? *(const volatile __u32 *)&run->pods_host : 0;
	enum rule_action action;

	if (!pods)
		return VERDICT_PASSED;
	packet->judged = packet->headers.tuple;
	if (is_failsafe(FAILSAFE_IN, 0))
		return VERDICT_PASSED;
	action = judge_host(pods, 0, HOST_UNIT_PRE_DNAT, skb->ifindex);
	packet->pre_accepted = action == RULE_ACTION_ALLOW;
	return action == RULE_ACTION_DENY ? VERDICT_POLICY : VERDICT_PASSED;
}

#endif
