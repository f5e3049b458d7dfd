/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Whether a pod may say what it says: its own addresses, and what every host says of itself on its link. */
#ifndef TORTIE_SENDER_H
#define TORTIE_SENDER_H

#include "consts.h"
#include "maps.h"
#include "parse.h"

static __always_inline enum verdict judge_arp(struct cursor *cursor, __u32 ifindex)
{
	struct source_key key = {
	    .prefix_len = SOURCE_KEY_FIXED_BITS + 32,
	    .ifindex = ifindex,
	    .family = FAMILY_IPV4,
	};
	const struct arp_packet *arp = cursor_take(cursor, sizeof(*arp));

	if (!arp)
		return VERDICT_TRUNCATED;
	if (arp->hardware_type != bpf_htons(ARP_HARDWARE_ETHERNET) ||
	    arp->protocol_type != bpf_htons(ETH_P_IP) || arp->hardware_length != 6 ||
	    arp->protocol_length != 4)
		return VERDICT_MALFORMED;
	if (arp->operation != bpf_htons(ARP_REQUEST) && arp->operation != bpf_htons(ARP_REPLY))
		return VERDICT_MALFORMED;
	__builtin_memcpy(key.address, arp->sender_ip, 4);
	/* A probe for a duplicate asks from 0.0.0.0 (RFC 5227 2.1.1) and teaches nobody anything. */
	if (*(__u32 *)key.address == 0 && arp->operation == bpf_htons(ARP_REQUEST))
		return VERDICT_PASSED;
	return source_allowed(&key) ? VERDICT_PASSED : VERDICT_SPOOFED_ARP;
}

static __always_inline enum verdict judge_ipv4(struct cursor *cursor, __u32 ifindex)
{
	struct source_key key = {
	    .prefix_len = SOURCE_KEY_FIXED_BITS + 32,
	    .ifindex = ifindex,
	    .family = FAMILY_IPV4,
	};
	const struct ipv4_header *ip = cursor_take(cursor, sizeof(*ip));
	__u32 header_length, total_length;

	if (!ip)
		return VERDICT_TRUNCATED;
	header_length = (ip->version_ihl & 0xf) * 4;
	total_length = bpf_ntohs(ip->total_length);
	/* A GSO packet too big for the field has 0 there (BIG TCP). */
	if (total_length == 0 && cursor->skb->gso_size != 0)
		total_length = cursor_left(cursor) + sizeof(*ip);
	if (ip->version_ihl >> 4 != 4 || header_length < sizeof(*ip) || total_length < header_length)
		return VERDICT_MALFORMED;
	if (total_length > cursor_left(cursor) + sizeof(*ip))
		return VERDICT_TRUNCATED;
	__builtin_memcpy(key.address, ip->source, 4);
	return source_allowed(&key) ? VERDICT_PASSED : VERDICT_SPOOFED_SOURCE;
}

/*
 * What every IPv6 host says from its link-local address, or from :: while it has none: neighbour discovery
 * and multicast listener reports (RFC 4861, 2710, 3810). Routers never forward it, so it needs no announced
 * source.
 */
static __always_inline enum verdict judge_link_local(struct cursor *cursor, __u8 next_header, __u8 hop_limit)
{
	const __u8 *type;

	if (next_header == PROTOCOL_HOPOPTS) {
		/* Listener reports carry a router alert, which just fills the smallest options header. */
		const struct ipv6_options *options = cursor_take(cursor, 8);

		if (!options)
			return VERDICT_TRUNCATED;
		if (options->next_header != PROTOCOL_ICMPV6 || options->length != 0 || hop_limit != 1)
			return VERDICT_SPOOFED_SOURCE;
		type = cursor_take(cursor, 1);
		if (!type)
			return VERDICT_TRUNCATED;
		if (*type == ICMPV6_MLD2_REPORT || *type == ICMPV6_MLD_REPORT || *type == ICMPV6_MLD_DONE)
			return VERDICT_PASSED;
		return VERDICT_SPOOFED_SOURCE;
	}
	if (next_header != PROTOCOL_ICMPV6 || hop_limit != ND_HOP_LIMIT)
		return VERDICT_SPOOFED_SOURCE;
	type = cursor_take(cursor, 1);
	if (!type)
		return VERDICT_TRUNCATED;
	if (*type == ICMPV6_NEIGHBOUR_SOLICIT || *type == ICMPV6_NEIGHBOUR_ADVERT ||
	    *type == ICMPV6_ROUTER_SOLICIT)
		return VERDICT_PASSED;
	return VERDICT_SPOOFED_SOURCE;
}

static __always_inline int is_link_local_or_unspecified(const struct source_key *key)
{
	const __u32 *words = (const __u32 *)key->address;

	if ((words[0] & bpf_htonl(0xffc00000)) == bpf_htonl(0xfe800000))
		return 1;
	return (words[0] | words[1] | words[2] | words[3]) == 0;
}

static __always_inline enum verdict judge_ipv6(struct cursor *cursor, __u32 ifindex)
{
	struct source_key key = {
	    .prefix_len = SOURCE_KEY_FIXED_BITS + 128,
	    .ifindex = ifindex,
	    .family = FAMILY_IPV6,
	};
	const struct ipv6_header *ip = cursor_take(cursor, sizeof(*ip));
	__u8 next_header, hop_limit;

	if (!ip)
		return VERDICT_TRUNCATED;
	if ((ip->version_class_flow & bpf_htonl(0xf0000000)) != bpf_htonl(0x60000000))
		return VERDICT_MALFORMED;
	/* A jumbogram says 0 here, and so passes. */
	if (bpf_ntohs(ip->payload_length) > cursor_left(cursor))
		return VERDICT_TRUNCATED;
	next_header = ip->next_header;
	hop_limit = ip->hop_limit;
	__builtin_memcpy(key.address, ip->source, 16);
	if (source_allowed(&key))
		return VERDICT_PASSED;
	if (is_link_local_or_unspecified(&key))
		return judge_link_local(cursor, next_header, hop_limit);
	return VERDICT_SPOOFED_SOURCE;
}

#endif
