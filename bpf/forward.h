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
#include "icmp.h"
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
#define is_forwarded OF_FAMILY(is_forwarded)
#define segment_bytes OF_FAMILY(segment_bytes)
#define ask_route OF_FAMILY(ask_route)
#define find_route OF_FAMILY(find_route)
#define device_out OF_FAMILY(device_out)
#define forward_refused OF_FAMILY(forward_refused)
#define forward_out OF_FAMILY(forward_out)
#define forward_in OF_FAMILY(forward_in)
#define judge_pre_dnat OF_FAMILY(judge_pre_dnat)

/* sys/socket.h. */
#define AF_INET 2
#define AF_INET6 10

/* The next hop of a route that was found, as bpf_redirect_neigh takes it. */
static __always_inline void next_hop(const struct bpf_fib_lookup *route, struct bpf_redir_neigh *next)
{
	next->nh_family = route->family;
	if (route->family == AF_INET)
		next->ipv4_nh = route->ipv4_dst;
	else
		__builtin_memcpy(next->ipv6_nh, route->ipv6_dst, sizeof(next->ipv6_nh));
}

/* On by a route that find_route found, for tc. The stack's neighbours resolve the next hop: MACs that the
 * lookup knows would keep no neighbour alive, and none would notice that they have changed. */
static __always_inline int send_by(const struct bpf_fib_lookup *route)
{
	struct bpf_redir_neigh next = {};

	next_hop(route, &next);
	return bpf_redirect_neigh(route->ifindex, &next, sizeof(next), 0);
}

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
	__builtin_memset(&packet->hop, 0, sizeof(packet->hop));
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

/* Whether a router sends on what is for that address, or from it, if it has a route: the look-up doesn't ask.
 */
static __always_inline int is_forwarded(const __u8 *address)
{
#if FAMILY == 4
	/* This host, loopback, groups, broadcast. */
	return address[0] != 0 && address[0] != 127 && address[0] < 224;
#else
	__u32 bits = bpf_ntohl(*(const __u32 *)(address + 12)) & ~1U;

	/* Unspecified, loopback; groups; the link's. */
#pragma unroll
	for (int i = 0; i < 12; i += 4)
		bits |= *(const __u32 *)(address + i);
	return bits && address[0] != 0xff && !is_on_link(address);
#endif
}

/* How long the IP packet is, or each that is cut out of it (GSO); 0: nobody knows. */
static __always_inline __u32 segment_bytes(struct __sk_buff *skb, const struct flow_headers *headers)
{
	__u32 bytes = headers->end - headers->l3_offset;
	__u8 words = 0;

	if (skb->gso_size) {
		bytes = headers->l4_offset - headers->l3_offset + skb->gso_size;
		if (headers->tuple.protocol != PROTOCOL_TCP)
			bytes += UDP_HEADER;
		else if (bpf_skb_load_bytes(skb, headers->l4_offset + 12, &words, sizeof(words)))
			return 0;
		bytes += (words >> 4) * 4;
	}
	return bytes <= 0xffff ? bytes : 0;
}

/* Asks for packet->routed, `bytes` long. */
static __always_inline long ask_route(struct __sk_buff *skb, struct packet *packet, __u32 bytes)
{
	const struct flow_tuple *tuple = &packet->routed;
	struct bpf_fib_lookup *route = &packet->route;
	__u32 l3_offset = packet->headers.l3_offset;

	__builtin_memset(route, 0, sizeof(*route));
	route->family = FAMILY == 4 ? AF_INET : AF_INET6;
	route->ifindex = skb->ifindex;
	route->tot_len = bytes;
	route->l4_protocol = tuple->protocol;
	if (has_ports(tuple->protocol)) {
		route->sport = bpf_htons(tuple->source_port);
		route->dport = bpf_htons(tuple->destination_port);
	}
#if FAMILY == 4
	bpf_skb_load_bytes(skb, l3_offset + 1, &route->tos, 1);
	__builtin_memcpy(&route->ipv4_src, tuple->source, 4);
	__builtin_memcpy(&route->ipv4_dst, tuple->destination, 4);
#else
	bpf_skb_load_bytes(skb, l3_offset, &route->flowinfo, 4);
	route->flowinfo &= bpf_htonl(0x0fffffff);
	__builtin_memcpy(route->ipv6_src, tuple->source, 16);
	__builtin_memcpy(route->ipv6_dst, tuple->destination, 16);
#endif
	return bpf_fib_lookup(skb, route, sizeof(*route), 0);
}

/*
 * The way by which the stack would forward packet->routed: packet->route and packet->too_long. Whether the
 * neighbour is known is not asked. Rules that look at marks aren't seen (that takes kernel 6.10), nor is in
 * IPv4 the MTU of a route, unless it is locked.
 */
__noinline int find_route(struct __sk_buff *skb)
{
	struct packet *packet = this_packet();
	long answer;

	if (!packet)
		return 0;
	packet->too_long = 0;
	answer = ask_route(skb, packet, segment_bytes(skb, &packet->headers));
	if (answer == BPF_FIB_LKUP_RET_FRAG_NEEDED) {
		/* That names no device. */
		packet->too_long = 1;
		answer = ask_route(skb, packet, 0);
	}
	if (answer != BPF_FIB_LKUP_RET_SUCCESS && answer != BPF_FIB_LKUP_RET_NO_NEIGH &&
	    answer != BPF_FIB_LKUP_RET_FRAG_NEEDED)
		packet->route.ifindex = 0;
	return 0;
}

/*
 * The device by which the stack would forward the packet as packet->to; 0: it has no way. The route is chosen
 * by the source that the packet came with: netfilter masquerades behind that.
 */
static __always_inline __u32 device_out(struct __sk_buff *skb, struct packet *packet)
{
	if (packet->has_route)
		return packet->route.ifindex;
	packet->routed = packet->headers.tuple;
	if (packet->headers.is_error) {
		__builtin_memcpy(packet->routed.destination, packet->to.source, ADDRESS_BYTES);
	} else {
		__builtin_memcpy(packet->routed.destination, packet->to.destination, ADDRESS_BYTES);
		packet->routed.destination_port = packet->to.destination_port;
	}
	find_route(skb);
	packet->has_route = 1;
	return packet->route.ifindex;
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
	ifindex = device_out(skb, packet);
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
