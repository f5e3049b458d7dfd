/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What a packet's headers are changed into, with all checksums right afterwards: docs/design/ebpf-flows.md
 * has the table. For one family (see family.h).
 *
 * No pointers into the packet: it is read and written by helpers, which make a clone writable only when
 * something is written. Functions return VERDICT_PASSED or the reason to drop the packet, which may be half
 * changed then.
 */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>
#include "consts.h"
#include "l4.h"

#if (FAMILY == 4 && !defined(TORTIE_REWRITE4_H)) || (FAMILY == 6 && !defined(TORTIE_REWRITE6_H))
#if FAMILY == 4
#define TORTIE_REWRITE4_H
#else
#define TORTIE_REWRITE6_H
#endif

#ifndef TORTIE_REWRITE_H
#define TORTIE_REWRITE_H

#define rewrite_packet OF_FAMILY(rewrite_packet)
#define rewrite_quoted OF_FAMILY(rewrite_quoted)
#define rewrite_error OF_FAMILY(rewrite_error)
#define lower_hops OF_FAMILY(lower_hops)
#define change_ports OF_FAMILY(change_ports)
#define checksum_place OF_FAMILY(checksum_place)
#define has_pseudo_header OF_FAMILY(has_pseudo_header)
#define same_address OF_FAMILY(same_address)
#define translate_addresses OF_FAMILY(translate_addresses)

#define PROTOCOL_DCCP 33
#define PROTOCOL_UDPLITE 136

/* What of a transport header is translated: the words' sum is what its checksum is changed by. */
struct port_change {
	__be16 from[2];
	__be16 to[2];
	/* Where it is in the header, and how many bytes; 0: nothing changes. */
	__u32 offset;
	__u32 size;
} __attribute__((aligned(4)));

/* A number of the Internet checksum (RFC 1071) in 16 bits. */
static __always_inline __u16 fold_sum(__u32 sum)
{
	sum = (sum & 0xffff) + (sum >> 16);
	return (sum & 0xffff) + (sum >> 16);
}

/* Checksum 0 means there is none, so a computed 0 is written as its equal (RFC 768). */
static __always_inline int zero_is_none(__u8 protocol)
{
	return protocol == PROTOCOL_UDP || protocol == PROTOCOL_UDPLITE;
}

/* The frame's MACs, both, for a redirect. */
static __always_inline enum verdict set_macs(struct __sk_buff *skb, const __u8 destination[6],
					     const __u8 source[6])
{
	__u8 macs[12];

	__builtin_memcpy(macs, destination, 6);
	__builtin_memcpy(macs + 6, source, 6);
	/* Checksums of the kernel begin behind the Ethernet header: nothing to be made anew. */
	return bpf_skb_store_bytes(skb, 0, macs, sizeof(macs), 0) ? VERDICT_REWRITE : VERDICT_PASSED;
}

/*
 * Whether the packet, or each that is cut out of it if it is many in one (GSO), is short enough for the
 * device: 1 or 0. `*mtu`: the device's, in bytes of IP; 0 if there is no such device, which nothing fits.
 */
static __always_inline int fits_device(struct __sk_buff *skb, __u32 ifindex, __u32 *mtu)
{
	*mtu = 0;
	return bpf_check_mtu(skb, ifindex, mtu, 0, BPF_MTU_CHK_SEGS) == 0;
}

#endif

#if FAMILY == 4
#define ADDRESSES_PLACE __builtin_offsetof(struct ipv4_header, source)
#else
#define ADDRESSES_PLACE __builtin_offsetof(struct ipv6_header, source)
#endif

/* Where in the transport header its checksum is; 0: it has none that translation changes. */
static __always_inline __u32 checksum_place(__u8 protocol)
{
	switch (protocol) {
	case PROTOCOL_TCP:
		return 16;
	case PROTOCOL_UDP:
	case PROTOCOL_UDPLITE:
	case PROTOCOL_DCCP:
		return 6;
	case FAMILY == 4 ? PROTOCOL_ICMP:
	PROTOCOL_ICMPV6:
		return 2;
	default:
		return 0;
	}
}

/* Whether the checksum covers the addresses. */
static __always_inline int has_pseudo_header(__u8 protocol)
{
	return FAMILY == 6 || protocol != PROTOCOL_ICMP;
}

static __always_inline int same_address(const __u8 *one, const __u8 *other)
{
	__u8 difference = 0;

#pragma unroll
	for (int i = 0; i < ADDRESS_BYTES; i++)
		difference |= one[i] ^ other[i];
	return difference == 0;
}

/* What changes in the transport header. VERDICT_SCTP_PORT: what can't. */
static __always_inline enum verdict change_ports(const struct flow_headers *headers,
						 const struct flow_tuple *to, struct port_change *change)
{
	const struct flow_tuple *from = &headers->tuple;

	__builtin_memset(change, 0, sizeof(*change));
	if (headers->fragment == FRAGMENT_KIND_LATER)
		return VERDICT_PASSED;
	if (from->protocol == (FAMILY == 4 ? PROTOCOL_ICMP : PROTOCOL_ICMPV6)) {
		if (from->source_port == to->source_port || !has_icmp_id(from->destination_port >> 8))
			return VERDICT_PASSED;
		change->from[0] = bpf_htons(from->source_port);
		change->to[0] = bpf_htons(to->source_port);
		change->offset = 4;
		change->size = 2;
		return VERDICT_PASSED;
	}
	if (!has_ports(from->protocol) ||
	    (from->source_port == to->source_port && from->destination_port == to->destination_port))
		return VERDICT_PASSED;
	if (from->protocol == PROTOCOL_SCTP)
		return VERDICT_SCTP_PORT;
	change->from[0] = bpf_htons(from->source_port);
	change->from[1] = bpf_htons(from->destination_port);
	change->to[0] = bpf_htons(to->source_port);
	change->to[1] = bpf_htons(to->destination_port);
	change->size = 4;
	return VERDICT_PASSED;
}

/*
 * Writes both addresses of `to` into an IP header, and an IPv4 header's own checksum. `*difference` is what
 * that adds to a sum over the addresses. Returns 0, or an error. `flags` of bpf_skb_store_bytes.
 */
static __always_inline int translate_addresses(struct __sk_buff *skb, const struct flow_headers *headers,
					       const struct flow_tuple *to, __u64 flags, __u32 *difference)
{
	/* Both are one behind the other, in the header as in a tuple. */
	_Static_assert(__builtin_offsetof(struct flow_tuple, source) == 0, "addresses come first");
	_Static_assert(__builtin_offsetof(struct flow_tuple, destination) == ADDRESS_BYTES, "side by side");
	__s64 sum =
	    bpf_csum_diff((__be32 *)&headers->tuple, 2 * ADDRESS_BYTES, (__be32 *)to, 2 * ADDRESS_BYTES, 0);

	if (sum < 0)
		return -1;
	*difference = sum;
	if (bpf_skb_store_bytes(skb, headers->l3_offset + ADDRESSES_PLACE, to, 2 * ADDRESS_BYTES, flags))
		return -1;
#if FAMILY == 4
	if (bpf_l3_csum_replace(skb, headers->l3_offset + __builtin_offsetof(struct ipv4_header, checksum), 0,
				sum, 0))
		return -1;
#endif
	return 0;
}

/*
 * Makes the packet's tuple `to`; `headers->tuple` is that afterwards. Where the protocol has no ports that
 * can be changed, those of `to` are not looked at: a later fragment has none, of ICMP it is source_port, the
 * identifier, if the type has one. SCTP with other ports is VERDICT_SCTP_PORT. The protocol must be the same.
 */
__noinline int rewrite_packet(struct __sk_buff *skb, struct flow_headers *headers,
			      const struct flow_tuple *to)
{
	struct port_change change;
	__u32 difference, place;
	enum verdict verdict;
	__u64 flags;

	if (!headers || !to || headers->tuple.protocol != to->protocol)
		return VERDICT_REWRITE;
	verdict = change_ports(headers, to, &change);
	if (verdict != VERDICT_PASSED)
		return verdict;
	/* The device's sum over the whole packet, if it made one: in IPv4 the header's checksum makes up for
	 * the addresses; in IPv6 BPF_F_PSEUDO_HDR takes them out of the sum, and this puts them in. */
	flags = FAMILY == 6 ? BPF_F_RECOMPUTE_CSUM : 0;
	if (translate_addresses(skb, headers, to, flags, &difference))
		return VERDICT_REWRITE;
	place = headers->fragment == FRAGMENT_KIND_LATER ? 0 : checksum_place(to->protocol);
	/* Whole headers of the protocols that parse_headers knows; others may be cut off. */
	if (place && headers->l4_offset + place + 2 <= headers->end) {
		__u32 at = headers->l4_offset + place;

		flags = zero_is_none(to->protocol) ? BPF_F_MARK_MANGLED_0 : 0;
		/* Two steps: of a checksum that the device will make (CHECKSUM_PARTIAL) only the sum of the
		 * pseudo header is there. */
		if (has_pseudo_header(to->protocol) &&
		    bpf_l4_csum_replace(skb, at, 0, difference, flags | BPF_F_PSEUDO_HDR))
			return VERDICT_REWRITE;
		if (change.size && bpf_l4_csum_replace(skb, at, *(__be32 *)change.from, *(__be32 *)change.to,
						       flags | sizeof(__be32)))
			return VERDICT_REWRITE;
	}
	if (change.size == 4 && bpf_skb_store_bytes(skb, headers->l4_offset, change.to, 4, 0))
		return VERDICT_REWRITE;
	if (change.size == 2 && bpf_skb_store_bytes(skb, headers->l4_offset + change.offset, change.to, 2, 0))
		return VERDICT_REWRITE;
	__builtin_memcpy(headers->tuple.source, to->source, ADDRESS_BYTES);
	__builtin_memcpy(headers->tuple.destination, to->destination, ADDRESS_BYTES);
	if (change.size)
		headers->tuple.source_port = to->source_port;
	if (change.size == 4)
		headers->tuple.destination_port = to->destination_port;
	return VERDICT_PASSED;
}

/*
 * Translates the packet that an ICMP error quotes; see rewrite_error. `*sum` is what all that adds to the
 * error's checksum.
 */
static __noinline int rewrite_quoted(struct __sk_buff *skb, struct flow_headers *quoted,
				     const struct flow_tuple *to, __u32 *sum)
{
	struct port_change change;
	__u32 difference, place;
	enum verdict verdict;

	verdict = change_ports(quoted, to, &change);
	if (verdict != VERDICT_PASSED)
		return verdict;
	if (translate_addresses(skb, quoted, to, 0, &difference))
		return VERDICT_REWRITE;
	/* An IPv4 header's own checksum makes up for its addresses. */
	*sum = FAMILY == 4 ? 0 : difference;
	place = quoted->fragment == FRAGMENT_KIND_LATER ? 0 : checksum_place(to->protocol);
	/* By hand: bpf_l4_csum_replace would take it for the checksum of the packet that quotes. */
	if (place && quoted->l4_offset + place + 2 <= quoted->end) {
		__u32 at = quoted->l4_offset + place;
		__u16 words[4] = {};
		__u32 changed = has_pseudo_header(to->protocol) ? difference : 0;

		if (bpf_skb_load_bytes(skb, at, words, 2))
			return VERDICT_REWRITE;
		changed = fold_sum(changed);
		changed += fold_sum(bpf_csum_diff((__be32 *)change.from, 4, (__be32 *)change.to, 4, 0));
		words[2] = ~fold_sum((__u16)~words[0] + fold_sum(changed));
		if (words[2] == 0 && zero_is_none(to->protocol))
			words[2] = 0xffff;
		if (words[0] != 0 || !zero_is_none(to->protocol)) {
			if (bpf_skb_store_bytes(skb, at, words + 2, 2, 0))
				return VERDICT_REWRITE;
			*sum = bpf_csum_diff((__be32 *)words, 4, (__be32 *)(words + 2), 4, *sum);
		}
	}
	*sum = bpf_csum_diff((__be32 *)change.from, 4, (__be32 *)change.to, 4, *sum);
	if (change.size == 4 && bpf_skb_store_bytes(skb, quoted->l4_offset, change.to, 4, 0))
		return VERDICT_REWRITE;
	if (change.size == 2 && bpf_skb_store_bytes(skb, quoted->l4_offset + change.offset, change.to, 2, 0))
		return VERDICT_REWRITE;
	return VERDICT_PASSED;
}

/*
 * Translates an ICMP error: the packet that it quotes (`quoted`: parse_headers at headers->l4_offset +
 * ICMP_HEADER) gets the tuple `to`, in its own direction, that is: as its sender sent it. The error goes to
 * the source of that then; and if it came from the quoted packet's destination, it comes from that of `to`,
 * else its source stays (a router's). `headers->tuple` is as translated afterwards; `quoted` isn't.
 */
__noinline int rewrite_error(struct __sk_buff *skb, struct flow_headers *headers, struct flow_headers *quoted,
			     const struct flow_tuple *to)
{
	struct flow_tuple outside;
	enum verdict verdict;
	__u32 sum = 0;

	if (!headers || !quoted || !to || quoted->tuple.protocol != to->protocol)
		return VERDICT_REWRITE;
	verdict = rewrite_quoted(skb, quoted, to, &sum);
	if (verdict != VERDICT_PASSED)
		return verdict;
	if (bpf_l4_csum_replace(skb, headers->l4_offset + 2, 0, sum, 0))
		return VERDICT_REWRITE;
	outside = headers->tuple;
	if (same_address(outside.source, quoted->tuple.destination))
		__builtin_memcpy(outside.source, to->destination, ADDRESS_BYTES);
	if (same_address(outside.destination, quoted->tuple.source))
		__builtin_memcpy(outside.destination, to->source, ADDRESS_BYTES);
	return rewrite_packet(skb, headers, &outside);
}

/*
 * Takes one off the hop limit (TTL), as who forwards a packet must. VERDICT_HOP_LIMIT, and nothing changed,
 * if none would be left: REFUSAL_HOPS says so to the sender.
 */
static __always_inline enum verdict lower_hops(struct __sk_buff *skb, struct flow_headers *headers)
{
	__u8 hops = headers->hops - 1;

	if (headers->hops <= 1)
		return VERDICT_HOP_LIMIT;
#if FAMILY == 4
	__u32 l3_offset = headers->l3_offset;
	/* It shares its word of the sum with the protocol, which cancels out. */
	if (bpf_l3_csum_replace(skb, l3_offset + __builtin_offsetof(struct ipv4_header, checksum),
				bpf_htons(headers->hops << 8), bpf_htons(hops << 8), sizeof(__be16)) ||
	    bpf_skb_store_bytes(skb, l3_offset + __builtin_offsetof(struct ipv4_header, ttl), &hops, 1, 0))
		return VERDICT_REWRITE;
#else
	if (bpf_skb_store_bytes(skb, headers->l3_offset + __builtin_offsetof(struct ipv6_header, hop_limit),
				&hops, 1, BPF_F_RECOMPUTE_CSUM))
		return VERDICT_REWRITE;
#endif
	headers->hops = hops;
	return VERDICT_PASSED;
}

#undef ADDRESSES_PLACE
#endif
