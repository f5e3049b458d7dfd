/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Pods' flows that leave the pools, from the node's address: docs/design/ebpf-net.md, "Masquerade". For one
 * family (see family.h).
 */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>
#include "consts.h"
#include "packet.h"
#include "icmp.h"
#include "track.h"
#include "judge.h"

#if (FAMILY == 4 && !defined(TORTIE_MASQUERADE4_H)) || (FAMILY == 6 && !defined(TORTIE_MASQUERADE6_H))
#if FAMILY == 4
#define TORTIE_MASQUERADE4_H
#else
#define TORTIE_MASQUERADE6_H
#endif

#ifndef TORTIE_MASQUERADE_H
#define TORTIE_MASQUERADE_H

#define is_masqueraded OF_FAMILY(is_masqueraded)
#define is_taken OF_FAMILY(is_taken)
#define has_address OF_FAMILY(has_address)
#define make_masqueraded OF_FAMILY(make_masqueraded)

/* What make_masqueraded says where netfilter is to masquerade: no enum flow_made. */
#define FLOW_BY_STACK 3

#endif

/* Whether what opens a flow to packet->hop gets the node's address. */
__noinline int is_masqueraded(void)
{
	struct packet *packet = this_packet();
	struct address_info info = {};
	const struct hop *hop;

	if (!packet || packet->hop.flags & HOP_IN_POOL)
		return 0;
	find_address(packet->headers.tuple.source, &info);
	hop = info.hop ? bpf_map_lookup_elem(&tortie_hops, &info.hop) : NULL;
	return hop && hop->flags & HOP_NAT_OUTGOING;
}

/* Whether the node's own sockets have packet->to's source with this other end; as of what the socket gets.
 * One that listens there has it with everybody. ICMP's identifiers can't be asked for. */
__noinline int is_taken(struct __sk_buff *skb)
{
	struct packet *packet = this_packet();
	struct bpf_sock_tuple tuple = {};
	const struct flow_tuple *to;
	struct bpf_sock *socket;
	__u32 length;

	if (!packet)
		return 1;
	to = &packet->to;
#if FAMILY == 4
	__builtin_memcpy(&tuple.ipv4.saddr, to->destination, 4);
	__builtin_memcpy(&tuple.ipv4.daddr, to->source, 4);
	tuple.ipv4.sport = bpf_htons(to->destination_port);
	tuple.ipv4.dport = bpf_htons(to->source_port);
	length = sizeof(tuple.ipv4);
#else
	__builtin_memcpy(tuple.ipv6.saddr, to->destination, 16);
	__builtin_memcpy(tuple.ipv6.daddr, to->source, 16);
	tuple.ipv6.sport = bpf_htons(to->destination_port);
	tuple.ipv6.dport = bpf_htons(to->source_port);
	length = sizeof(tuple.ipv6);
#endif
	if (to->protocol == PROTOCOL_TCP)
		socket = bpf_skc_lookup_tcp(skb, &tuple, length, BPF_F_CURRENT_NETNS, 0);
	else if (to->protocol == PROTOCOL_UDP)
		socket = bpf_sk_lookup_udp(skb, &tuple, length, BPF_F_CURRENT_NETNS, 0);
	else
		return 0;
	if (!socket)
		return 0;
	bpf_sk_release(socket);
	return 1;
}

static __always_inline int has_address(const __u8 *address)
{
	__u32 bits = 0;

#pragma unroll
	for (int i = 0; i < ADDRESS_BYTES; i += 4)
		bits |= *(const __u32 *)(address + i);
	return bits != 0;
}

/*
 * make_flow for a flow that gets a source address of the uplink, and a port that is free there: packet->to
 * has both then. FLOW_BY_STACK: the uplink has no such address, there is no range of ports or none of those
 * that were tried is free, or the protocol is none whose ports may be changed; packet->to is as before.
 */
__noinline int make_masqueraded(struct __sk_buff *skb, __u32 flags)
{
	struct packet *packet = this_packet();
	const struct run_state *run = run_state();
	const struct host_slot *uplink;
	struct flow_tuple *to;
	__u32 first, count, sender;
	int error = -EEXIST;

	if (!packet || !run)
		return FLOW_BY_STACK;
	to = &packet->to;
	if (to->protocol != PROTOCOL_TCP && to->protocol != PROTOCOL_UDP && !is_icmp(to->protocol))
		return FLOW_BY_STACK;
	uplink = uplink_at(packet->route.ifindex);
	first = *(const volatile __u32 *)&run->nat_first;
	count = *(const volatile __u32 *)&run->nat_last - first + 1;
	if (!uplink || !has_address(FAMILY == 4 ? uplink->masquerade4 : uplink->masquerade6) || !first ||
	    first > 0xffff || count > 0x10000 - first)
		return FLOW_BY_STACK;
	__builtin_memcpy(to->source, FAMILY == 4 ? uplink->masquerade4 : uplink->masquerade6, ADDRESS_BYTES);
	/* Keys of ICMP flows have the identifier at the smaller address, so both ends are told as they were.
	 */
	begin_record(packet, flags | FLOW_FLAG_SOURCE | (is_icmp(to->protocol) ? FLOW_FLAG_DESTINATION : 0));
	sender = key_of_tuple(&packet->headers.tuple, &packet->key) & 1;
	packet->record.source_before = packet->key.end[sender];
	if (is_icmp(to->protocol))
		packet->record.before = packet->key.end[!sender];
	for (int i = 0; i < PORT_TRIES && error == -EEXIST; i++) {
		to->source_port = first + (((__u64)bpf_get_prandom_u32() * count) >> 32);
		if (!is_taken(skb))
			error = insert_as();
	}
	if (!error) {
		packet->translation = TRANSLATION_PACKET;
		return lead_to_record();
	}
	__builtin_memcpy(to->source, packet->headers.tuple.source, ADDRESS_BYTES);
	to->source_port = packet->headers.tuple.source_port;
	return error == -EEXIST ? FLOW_BY_STACK : FLOW_MADE_FULL;
}

#endif
