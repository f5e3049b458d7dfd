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
#define route_known OF_FAMILY(route_known)
#define lower_known OF_FAMILY(lower_known)
#define known_by_net OF_FAMILY(known_by_net)

#endif

/* The way out of a packet that is short enough for it: 1 or 0. As find_route. */
static __always_inline int route_known(struct __sk_buff *skb, const struct known_packet *known,
				       struct bpf_fib_lookup *route)
{
	const struct flow_end *source = &known->key.end[known->sender & 1];
	const struct flow_end *destination = &known->key.end[!known->sender];
	__u32 bytes = known->length - ETH_HLEN;
	long answer;

	/* Each packet that is cut out of it. */
	if (skb->gso_size)
		bytes = skb->gso_size + (FAMILY == 4 ? 20 : 40) + known->header_bytes;
	if (bytes > 0xffff)
		return 0;
	__builtin_memset(route, 0, sizeof(*route));
	route->family = FAMILY == 4 ? AF_INET : AF_INET6;
	route->ifindex = skb->ifindex;
	route->tot_len = bytes;
	route->l4_protocol = known->protocol;
	route->sport = bpf_htons(source->port);
	route->dport = bpf_htons(destination->port);
#if FAMILY == 4
	route->tos = ((const __u8 *)known->words)[1];
	__builtin_memcpy(&route->ipv4_src, source->address, 4);
	__builtin_memcpy(&route->ipv4_dst, destination->address, 4);
#else
	route->flowinfo = known->version_class_flow & bpf_htonl(0x0fffffff);
	__builtin_memcpy(route->ipv6_src, source->address, 16);
	__builtin_memcpy(route->ipv6_dst, destination->address, 16);
#endif
	answer = bpf_fib_lookup(skb, route, sizeof(*route), 0);
	return (answer == BPF_FIB_LKUP_RET_SUCCESS || answer == BPF_FIB_LKUP_RET_NO_NEIGH) &&
	       is_direct(route->ifindex);
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
 * One of a flow by the net. The route is looked up each time: it may have become another, or that of a pod of
 * this node.
 */
static __always_inline int known_by_net(struct __sk_buff *skb, const struct known_packet *known)
{
	struct bpf_fib_lookup route;

	if (!(known->state & (known->from_opener ? FLOW_FLAG_EGRESS_OK : FLOW_FLAG_INGRESS_OK)) ||
	    known->hops <= 1 || !route_known(skb, known, &route))
		return GO_ON;
	if (lower_known(skb, known) != VERDICT_PASSED)
		return conclude(skb, DIRECTION_FROM_POD, VERDICT_REWRITE);
	count_known(known, 1);
	count_on(skb->ifindex, known->length, DIRECTION_FROM_POD, VERDICT_PASSED);
	mark_seen(skb);
	return send_by(&route);
}

/* A packet that a pod sends: what becomes of it, for tc, or GO_ON. */
__noinline int known_out(struct __sk_buff *skb)
{
	const __u64 both = FLOW_FLAG_EGRESS_OK | FLOW_FLAG_INGRESS_OK;
	struct known_packet known;
	const struct pod_slot *own, *to;
	__u32 mtu;

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
	if (!to || !device_announced(to->ifindex) || !fits_device(skb, to->ifindex, &mtu))
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
