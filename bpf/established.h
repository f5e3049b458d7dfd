/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The short way for nearly all packets: TCP and UDP of flows that are known, judged, answered and not
 * translated, and by which nothing changes but counts. docs/design/ebpf-flows.md, "The short way". For one
 * family (see family.h).
 *
 * Each function either does all that the long way (endpoint.h) would do with the packet, or nothing at all,
 * and says GO_ON. It never drops: whatever is unusual goes on. So nothing here has to be told, refused or
 * explained; and what it lets pass must be less than what the long way would.
 */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>
#include "consts.h"
#include "maps.h"
#include "counters.h"
#include "parse.h"
#include "endpoint-maps.h"
#include "packet.h"
#include "icmp.h"
#include "track.h"
#include "judge.h"
#include "rewrite.h"
#include "pod-out.h"
#include "known.h"

#if (FAMILY == 4 && !defined(TORTIE_ESTABLISHED4_H)) || (FAMILY == 6 && !defined(TORTIE_ESTABLISHED6_H))
#if FAMILY == 4
#define TORTIE_ESTABLISHED4_H
#else
#define TORTIE_ESTABLISHED6_H
#endif

#ifndef TORTIE_ESTABLISHED_H
#define TORTIE_ESTABLISHED_H

#define known_out OF_FAMILY(known_out)
#define known_in OF_FAMILY(known_in)
#define known_route OF_FAMILY(known_route)
#define bytes_known OF_FAMILY(bytes_known)
#define class_flow_of OF_FAMILY(class_flow_of)
#define is_current OF_FAMILY(is_current)
#define find_known_route OF_FAMILY(find_known_route)
#define lower_known OF_FAMILY(lower_known)
#define known_by_net OF_FAMILY(known_by_net)

#endif

/* Of that many flows a CPU remembers the way. */
#define KNOWN_ROUTES 256

/* The way of one direction of a flow, and how it was asked for. */
struct known_route {
	struct flow_key key;
	__u32 sender;
	/* By which it came; DSCP and flow label, as in struct bpf_fib_lookup. */
	__u32 ifindex;
	__u32 class_flow;
	/* The longest packet that the route is known to take. */
	__u32 bytes;
	/* When: as struct known_packet. */
	__u64 now;
	/* The uplink's slot, its device, the next hop there. */
	__u32 slot;
	__u32 uplink;
	struct bpf_redir_neigh next;
};

/* By the record's cookie, of which programs always set the lowest bit. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, KNOWN_ROUTES);
	__uint(key_size, sizeof(__u32));
	__uint(value_size, sizeof(struct known_route));
} OF_FAMILY(tortie_route) SEC(".maps");

/* Each packet that is cut out of it, in bytes. */
static __always_inline __u32 bytes_known(const struct __sk_buff *skb, const struct known_packet *known)
{
	return skb->gso_size ? skb->gso_size + (FAMILY == 4 ? 20 : 40) + known->header_bytes
			     : known->length - ETH_HLEN;
}

/* Without ECN's bits, by which no route is chosen, and which are others from packet to packet of a flow (RFC
 * 3168: data has them, an ACK alone doesn't). */
static __always_inline __u32 class_flow_of(const struct known_packet *known)
{
#if FAMILY == 4
	return ((const __u8 *)known->words)[1] & 0xfc;
#else
	return known->version_class_flow & bpf_htonl(0x0fcfffff);
#endif
}

/* Whether it is still this packet's way: found in this tick of the clock, by an uplink that is one yet. */
static __always_inline int is_current(const struct __sk_buff *skb, const struct known_packet *known,
				      const struct known_route *route, __u32 bytes)
{
	__u32 slot = route->slot;
	const struct host_slot *uplink;

	if (route->now != known->now || route->ifindex != skb->ifindex || route->sender != known->sender ||
	    route->class_flow != class_flow_of(known) || route->bytes < bytes ||
	    __builtin_memcmp(&route->key, &known->key, sizeof(known->key)))
		return 0;
	uplink = bpf_map_lookup_elem(&tortie_hosts, &slot);
	return uplink && uplink->ifindex == route->uplink &&
	       (*(const volatile __u32 *)&uplink->flags & (HOST_DIRECT | HOST_SHARED)) == HOST_DIRECT;
}

/* Looks for the way out of a packet that is short enough for it, and remembers it: 1 or 0. As find_route. */
static __always_inline int find_known_route(struct __sk_buff *skb, const struct known_packet *known,
					    struct known_route *route, __u32 bytes)
{
	const struct flow_end *source = &known->key.end[known->sender & 1];
	const struct flow_end *destination = &known->key.end[!known->sender];
	struct bpf_fib_lookup found = {
	    .family = FAMILY == 4 ? AF_INET : AF_INET6,
	    .l4_protocol = known->protocol,
	    .sport = bpf_htons(source->port),
	    .dport = bpf_htons(destination->port),
	    .tot_len = bytes,
	    .ifindex = skb->ifindex,
	};
	long answer;

	if (bytes > 0xffff)
		return 0;
#if FAMILY == 4
	found.tos = class_flow_of(known);
	__builtin_memcpy(&found.ipv4_src, source->address, 4);
	__builtin_memcpy(&found.ipv4_dst, destination->address, 4);
#else
	found.flowinfo = class_flow_of(known);
	__builtin_memcpy(found.ipv6_src, source->address, 16);
	__builtin_memcpy(found.ipv6_dst, destination->address, 16);
#endif
	/* Nobody reads a half of it: it is of an older tick until all is there. */
	route->now = 0;
	answer = bpf_fib_lookup(skb, &found, sizeof(found), 0);
	if ((answer != BPF_FIB_LKUP_RET_SUCCESS && answer != BPF_FIB_LKUP_RET_NO_NEIGH) ||
	    !is_direct(found.ifindex))
		return 0;
	route->key = known->key;
	route->sender = known->sender;
	route->ifindex = skb->ifindex;
	route->class_flow = class_flow_of(known);
	route->bytes = bytes;
	route->slot = host_slot_of(found.ifindex);
	route->uplink = found.ifindex;
	next_hop(&found, &route->next);
	route->now = known->now;
	return 1;
}

/* lower_hops. */
static __always_inline enum verdict lower_known(struct __sk_buff *skb, const struct known_packet *known)
{
#if FAMILY == 4
	/* By one call: see forward_known. */
	__u32 third = known->words[2];
	__u8 *word = (__u8 *)&third;
	__u32 sum = *(__u16 *)(word + 2) + bpf_htons(0x0100);

	word[0] -= 1;
	*(__u16 *)(word + 2) = sum + (sum >= 0xffff);
	return bpf_skb_store_bytes(skb, ETH_HLEN + 8, &third, sizeof(third), 0) ? VERDICT_REWRITE
										: VERDICT_PASSED;
#else
	struct flow_headers headers = {.l3_offset = ETH_HLEN, .hops = known->hops};

	return lower_hops(skb, &headers);
#endif
}

/*
 * One of a flow by the net. A route is looked up once in a tick of the clock: it may have become another, or
 * that of a pod of this node.
 */
static __always_inline int known_by_net(struct __sk_buff *skb, const struct known_packet *known)
{
	__u32 place = known->state >> 33 & (KNOWN_ROUTES - 1), bytes = bytes_known(skb, known);
	struct known_route *route = bpf_map_lookup_elem(&OF_FAMILY(tortie_route), &place);

	if (!(known->state & (known->from_opener ? FLOW_FLAG_EGRESS_OK : FLOW_FLAG_INGRESS_OK)) ||
	    known->hops <= 1 || !route)
		return GO_ON;
	if (!is_current(skb, known, route, bytes) && !find_known_route(skb, known, route, bytes))
		return GO_ON;
	if (lower_known(skb, known) != VERDICT_PASSED)
		return conclude(skb, DIRECTION_FROM_POD, VERDICT_REWRITE);
	count_known(known, 1);
	count_on(skb->ifindex, known->length, DIRECTION_FROM_POD, VERDICT_PASSED);
	mark_past_stack(skb);
	return bpf_redirect_neigh(route->uplink, &route->next, sizeof(route->next), 0);
}

/* A packet that a pod sends: what becomes of it, for tc, or GO_ON. */
__noinline int known_out(struct __sk_buff *skb)
{
	const __u64 both = FLOW_FLAG_EGRESS_OK | FLOW_FLAG_INGRESS_OK;
	struct known_packet known;
	const struct pod_slot *own, *to;

	if (skb->pkt_type != PACKET_HOST || !read_known(skb, &known) || !find_known(&known))
		return GO_ON;
	/* The device is the source's. */
	own = pod_at(&known, known.sender);
	if (!own || own->ifindex != skb->ifindex)
		return GO_ON;
	if (known.state & FLOW_FLAG_VIA_STACK) {
		if (!(known.state & (known.from_opener ? FLOW_FLAG_EGRESS_OK : FLOW_FLAG_INGRESS_OK)))
			return GO_ON;
		count_known(&known, 1);
		count_on(skb->ifindex, known.length, DIRECTION_FROM_POD, VERDICT_PASSED);
		return to_stack(skb);
	}
	to = pod_at(&known, !known.sender);
	if (!to && known.state & FLOW_FLAG_BY_NET)
		return known_by_net(skb, &known);
	if ((known.state & both) != both || known.hops <= 1)
		return GO_ON;
	if (!to || !device_announced(to->ifindex) || !fits_known(skb, &known, to->ifindex))
		return GO_ON;
	if (forward_known(skb, &known, to) != VERDICT_PASSED)
		return conclude(skb, DIRECTION_FROM_POD, VERDICT_REWRITE);
	count_known(&known, 1);
	count_on(skb->ifindex, known.length, DIRECTION_FROM_POD, VERDICT_PASSED);
	count_on(to->ifindex, known.length, DIRECTION_TO_POD, VERDICT_PASSED);
	return redirect_into_pod(skb, to->ifindex);
}

/* A packet that the stack gives to a pod. */
__noinline int known_in(struct __sk_buff *skb)
{
	struct known_packet known;
	__u64 needed, before;

	if (!read_known(skb, &known) || !find_known(&known))
		return GO_ON;
	needed = known.from_opener ? FLOW_FLAG_INGRESS_OK : FLOW_FLAG_EGRESS_OK;
	before = known.from_opener ? FLOW_FLAG_EGRESS_OK : FLOW_FLAG_INGRESS_OK;
	if (!(known.state & needed))
		return GO_ON;
	/* The sender's program has counted it, if it is one of ours. */
	count_known(&known, !(known.state & before));
	count_on(skb->ifindex, known.length, DIRECTION_TO_POD, VERDICT_PASSED);
	return TC_ACT_UNSPEC;
}

#endif
