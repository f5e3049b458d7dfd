/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * From a packet to what policy and connection tracking ask about: ports behind IPv4 options or IPv6 extension
 * headers, fragments, ICMP's type and code, the packet that an ICMP error quotes. For one family (see
 * family.h).
 *
 * Everything is copied out by bpf_skb_load_bytes (of XDP: bpf_xdp_load_bytes): no pointers into the packet,
 * whose places would have to be proven again behind each header of variable length, and nothing is made
 * linear, which copies the head of a clone.
 */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>
#include "consts.h"
#include "classify.h"
#include "parse.h"

/* What both families share. */
#ifndef TORTIE_L4_H
#define TORTIE_L4_H

#define flow_headers OF_FAMILY(flow_headers)
#define has_options OF_FAMILY(has_options)
#define has_icmp_id OF_FAMILY(has_icmp_id)
#define is_icmp_error OF_FAMILY(is_icmp_error)
#define parse_transport OF_FAMILY(parse_transport)
#define note_fragment OF_FAMILY(note_fragment)
#define parse_network OF_FAMILY(parse_network)
#define parse_headers OF_FAMILY(parse_headers)
#define find_network OF_FAMILY(find_network)

enum fragment_kind {
	/* The packet is whole. */
	FRAGMENT_KIND_NONE = 0,
	/* It has the ports; others belong to it. */
	FRAGMENT_KIND_FIRST = 1,
	/* It has no ports: whose it is, source, destination and `fragment_id` say together, in IPv4 with the
	   protocol. (In IPv6 that is what the fragment header says: perhaps an extension header, behind which
	   the first one has another.) */
	FRAGMENT_KIND_LATER = 2,
};

/* Bits of `tcp_flags` as on the wire (RFC 9293 3.1). */
#define TCP_FIN 0x01
#define TCP_SYN 0x02
#define TCP_RST 0x04
#define TCP_PSH 0x08
#define TCP_ACK 0x10

/* Extension headers that a packet may have: each kind once, destination options twice (RFC 8200 4.1), and one
 * to spare. */
#define EXTENSION_HEADERS 7
/* A quoted packet's transport header is cut off behind this (RFC 792). */
#define QUOTED_BYTES 8
#define TCP_HEADER 20
#define UDP_HEADER 8
#define SCTP_HEADER 12
#define ICMP_HEADER 8
#define IP_MORE_FRAGMENTS 0x2000
#define IP_DONT_FRAGMENT 0x4000
#define IP_FRAGMENT_OFFSET 0x1fff
#define IPV6_MORE_FRAGMENTS 0x0001
#define IPV6_FRAGMENT_OFFSET 0xfff8

struct ipv6_fragment {
	__u8 next_header;
	__u8 _reserved;
	__be16 offset_more;
	__be32 id;
} __attribute__((packed));

/*
 * What a packet comes in: a program of XDP says OF_FRAME before it includes this. A frame is as it was on the
 * wire: its tag is in it, and it is one packet.
 */
#ifdef OF_FRAME
#define packet_context xdp_md
#define load_bytes bpf_xdp_load_bytes
#define length_of(frame) ((__u32)bpf_xdp_get_buff_len(frame))
#define is_segmented(frame) 0
#define has_taken_tag(frame) 0
#else
#define packet_context __sk_buff
#define load_bytes bpf_skb_load_bytes
#define length_of(skb) ((skb)->len)
#define is_segmented(skb) ((skb)->gso_size != 0)
#define has_taken_tag(skb) ((skb)->vlan_present)
#endif

/* Copies bytes of the packet that lie before `end`. */
static __always_inline int load(struct packet_context *skb, __u32 offset, __u32 end, void *to, __u32 length)
{
	return offset + length <= end && load_bytes(skb, offset, to, length) == 0;
}

#endif /* what both families share */

#if (FAMILY == 4 && !defined(TORTIE_L4_4_H)) || (FAMILY == 6 && !defined(TORTIE_L4_6_H))
#if FAMILY == 4
#define TORTIE_L4_4_H
#else
#define TORTIE_L4_6_H
#endif

/* What the headers of a packet say. */
struct flow_headers {
	struct flow_tuple tuple;
	/* Identification of the fragmented packet, as on the wire; 0 if it isn't one. */
	__u32 fragment_id;
	enum fragment_kind fragment;
	/* From the frame's begin: the network header; the transport header (of a later fragment: its
	 * payload); the end of what IP says is there. */
	__u32 l3_offset;
	__u32 l4_offset;
	__u32 end;
	__u8 tcp_flags;
	/* TTL or hop limit. */
	__u8 hops;
	/* 1: an ICMP error that quotes a packet, which begins 8 bytes behind l4_offset. */
	__u8 is_error;
	__u8 _reserved;
};

/* Headers that a router must look at. (Of a fragment its own isn't one.) */
static __always_inline int has_options(const struct flow_headers *headers)
{
	return headers->fragment == FRAGMENT_KIND_NONE &&
	       headers->l4_offset - headers->l3_offset != (FAMILY == 4 ? 20 : 40);
}

/* Which ICMP messages carry an identifier where others have something else. */
static __always_inline int has_icmp_id(__u8 type)
{
#if FAMILY == 4
	/* Echo (8, 0), timestamp (13, 14), information (15, 16), address mask (17, 18). */
	return type == 8 || type == 0 || (type >= 13 && type <= 18);
#else
	return type == 128 || type == 129;
#endif
}

/* Which ICMP messages quote the packet that they are about: netfilter relates the same. */
static __always_inline int is_icmp_error(__u8 type)
{
#if FAMILY == 4
	/* Destination unreachable, source quench, redirect, time exceeded, parameter problem. */
	return type == 3 || type == 4 || type == 5 || type == 11 || type == 12;
#else
	/* Destination unreachable, packet too big, time exceeded, parameter problem. */
	return type >= 1 && type <= 4;
#endif
}

/* The transport header at l4_offset. A quoted one need not be whole. */
static __always_inline enum verdict parse_transport(struct packet_context *skb, int quoted,
						    struct flow_headers *out)
{
	struct flow_tuple *tuple = &out->tuple;
	__u8 header[16] = {};
	__u32 whole;

	switch (tuple->protocol) {
	case PROTOCOL_TCP:
		whole = TCP_HEADER;
		break;
	case PROTOCOL_UDP:
		whole = UDP_HEADER;
		break;
	case PROTOCOL_SCTP:
		whole = SCTP_HEADER;
		break;
	case FAMILY == 4 ? PROTOCOL_ICMP:
	PROTOCOL_ICMPV6:
		whole = ICMP_HEADER;
		break;
	default:
		return VERDICT_PASSED;
	}
	if (quoted)
		whole = QUOTED_BYTES;
	if (out->l4_offset + whole > out->end || !load(skb, out->l4_offset, out->end, header, 8))
		return VERDICT_TRUNCATED;
	if (tuple->protocol == PROTOCOL_ICMP || tuple->protocol == PROTOCOL_ICMPV6) {
		tuple->destination_port = header[0] << 8 | header[1];
		if (has_icmp_id(header[0]))
			tuple->source_port = header[4] << 8 | header[5];
		out->is_error = is_icmp_error(header[0]);
		return VERDICT_PASSED;
	}
	tuple->source_port = header[0] << 8 | header[1];
	tuple->destination_port = header[2] << 8 | header[3];
	if (tuple->protocol == PROTOCOL_TCP && !quoted) {
		if (!load(skb, out->l4_offset + 8, out->end, header + 8, 8))
			return VERDICT_TRUNCATED;
		/* Data offset: beyond the packet only where the rest is in later fragments. */
		if (header[12] >> 4 < TCP_HEADER / 4)
			return VERDICT_MALFORMED;
		if (out->fragment == FRAGMENT_KIND_NONE && out->l4_offset + (header[12] >> 4) * 4 > out->end)
			return VERDICT_TRUNCATED;
		out->tcp_flags = header[13];
	}
	return VERDICT_PASSED;
}

/*
 * Notes a fragment. `offset` in bytes, `payload` how much of it the header says is behind it. What a later
 * one may not do is overwrite the part of the first that we judge. Of a quoted one nothing follows.
 */
static __always_inline enum verdict note_fragment(struct flow_headers *out, __u32 id, __u32 offset, int more,
						  __u32 payload, int quoted)
{
	out->fragment_id = id;
	out->fragment = offset ? FRAGMENT_KIND_LATER : FRAGMENT_KIND_FIRST;
	if (quoted)
		return VERDICT_PASSED;
	if (offset + payload > 0xffff)
		return VERDICT_BAD_FRAGMENT;
	/* All but the last are multiples of 8 bytes long (RFC 791 3.2, RFC 8200 4.5). */
	if (more && (payload & 7 || payload == 0))
		return VERDICT_BAD_FRAGMENT;
	if (offset && offset < TCP_HEADER && out->tuple.protocol == PROTOCOL_TCP)
		return VERDICT_BAD_FRAGMENT;
	return VERDICT_PASSED;
}

#if FAMILY == 4
static __always_inline enum verdict parse_network(struct packet_context *skb, int quoted,
						  struct flow_headers *out)
{
	struct ipv4_header ip;
	__u32 header_length, total_length, fragment;

	if (!load(skb, out->l3_offset, out->end, &ip, sizeof(ip)))
		return VERDICT_TRUNCATED;
	header_length = (ip.version_ihl & 0xf) * 4;
	total_length = bpf_ntohs(ip.total_length);
	/* A GSO packet too big for the field has 0 there (BIG TCP). */
	if (total_length == 0 && !quoted && is_segmented(skb))
		total_length = out->end - out->l3_offset;
	if (ip.version_ihl >> 4 != 4 || header_length < sizeof(ip) || total_length < header_length)
		return VERDICT_MALFORMED;
	if (out->l3_offset + total_length <= out->end)
		out->end = out->l3_offset + total_length;
	else if (!quoted)
		return VERDICT_TRUNCATED;
	__builtin_memcpy(out->tuple.source, ip.source, ADDRESS_BYTES);
	__builtin_memcpy(out->tuple.destination, ip.destination, ADDRESS_BYTES);
	out->tuple.protocol = ip.protocol;
	out->hops = ip.ttl;
	out->l4_offset = out->l3_offset + header_length;
	fragment = bpf_ntohs(ip.fragment);
	if (!(fragment & (IP_MORE_FRAGMENTS | IP_FRAGMENT_OFFSET)))
		return VERDICT_PASSED;
	return note_fragment(out, ip.id, (fragment & IP_FRAGMENT_OFFSET) * 8, fragment & IP_MORE_FRAGMENTS,
			     total_length - header_length, quoted);
}
#else
static __always_inline enum verdict parse_network(struct packet_context *skb, int quoted,
						  struct flow_headers *out)
{
	struct ipv6_header ip;
	__u32 payload_length, said_end;
	__u8 next;

	if (!load(skb, out->l3_offset, out->end, &ip, sizeof(ip)))
		return VERDICT_TRUNCATED;
	if ((ip.version_class_flow & bpf_htonl(0xf0000000)) != bpf_htonl(0x60000000))
		return VERDICT_MALFORMED;
	payload_length = bpf_ntohs(ip.payload_length);
	out->l4_offset = out->l3_offset + sizeof(ip);
	/* A GSO packet too big for the field has 0 there, and so has a jumbogram (RFC 2675). */
	if (payload_length == 0 && (ip.next_header == PROTOCOL_HOPOPTS || (!quoted && is_segmented(skb))))
		payload_length = out->end - out->l4_offset;
	said_end = out->l4_offset + payload_length;
	if (said_end <= out->end)
		out->end = said_end;
	else if (!quoted)
		return VERDICT_TRUNCATED;
	__builtin_memcpy(out->tuple.source, ip.source, ADDRESS_BYTES);
	__builtin_memcpy(out->tuple.destination, ip.destination, ADDRESS_BYTES);
	out->hops = ip.hop_limit;
	next = ip.next_header;
	/* Unrolled, since clang may lay a loop out so that its end falls through to its head, which the
	 * verifier of kernel 6.1 takes for no way to loop. */
#pragma unroll
	for (int i = 0; i <= EXTENSION_HEADERS; i++) {
		struct ipv6_fragment header;
		enum verdict verdict;
		__u32 offset;

		/* The headers that netfilter's rules look behind, and no others. */
		if (next != PROTOCOL_HOPOPTS && next != PROTOCOL_ROUTING && next != PROTOCOL_DSTOPTS &&
		    next != PROTOCOL_AH && next != PROTOCOL_FRAGMENT) {
			out->tuple.protocol = next;
			return VERDICT_PASSED;
		}
		/* Hop-by-hop options come first (RFC 8200 4.1), and a fragment isn't fragmented again. */
		if (i == EXTENSION_HEADERS || (next == PROTOCOL_HOPOPTS && i != 0) ||
		    (next == PROTOCOL_FRAGMENT && out->fragment != FRAGMENT_KIND_NONE))
			return VERDICT_EXTENSIONS;
		if (!load(skb, out->l4_offset, out->end, &header, sizeof(header)))
			return VERDICT_TRUNCATED;
		if (next != PROTOCOL_FRAGMENT) {
			/* AH counts in units of 4 bytes and leaves out two, the others 8 and leave out one
			 * (RFC 4302 2.2). */
			out->l4_offset +=
			    next == PROTOCOL_AH ? (header._reserved + 2) * 4 : (header._reserved + 1) * 8;
			next = header.next_header;
			continue;
		}
		out->l4_offset += sizeof(header);
		next = header.next_header;
		offset = bpf_ntohs(header.offset_more);
		/* Offset 0 and nothing more: whole all the same (RFC 6946). */
		if (!(offset & (IPV6_FRAGMENT_OFFSET | IPV6_MORE_FRAGMENTS)))
			continue;
		out->tuple.protocol = next;
		verdict =
		    note_fragment(out, header.id, offset & IPV6_FRAGMENT_OFFSET, offset & IPV6_MORE_FRAGMENTS,
				  said_end > out->l4_offset ? said_end - out->l4_offset : 0, quoted);
		if (verdict != VERDICT_PASSED || out->fragment == FRAGMENT_KIND_LATER)
			return verdict;
	}
	return VERDICT_EXTENSIONS;
}
#endif

/*
 * The headers of the packet of this family that begins at `l3_offset`. `quoted_end` is 0, or where the ICMP
 * error ends that quotes the packet, which may be cut off then. VERDICT_PASSED, or why it is dropped. A
 * function of its own, which the verifier goes through once for all who call it.
 */
__noinline int parse_headers(struct packet_context *skb, __u32 l3_offset, __u32 quoted_end,
			     struct flow_headers *out)
{
	int quoted = quoted_end != 0;
	enum verdict verdict;
	__u32 length;

	if (!out)
		return VERDICT_MALFORMED;
	__builtin_memset(out, 0, sizeof(*out));
	out->l3_offset = l3_offset;
	length = length_of(skb);
	out->end = quoted && quoted_end < length ? quoted_end : length;
	verdict = parse_network(skb, quoted, out);
	if (verdict != VERDICT_PASSED)
		return verdict;
	if (out->l4_offset > out->end)
		return VERDICT_TRUNCATED;
	if (out->fragment == FRAGMENT_KIND_LATER)
		return VERDICT_PASSED;
	return parse_transport(skb, quoted, out);
}

/*
 * Where the network header of a frame begins, if it is of this family: behind at most one VLAN tag, be it in
 * the frame or taken out by the kernel. Who takes no tagged frames (a pod's device) has to refuse them
 * itself, by `vlan_present` and by an offset that isn't ETH_HLEN. Only for devices whose packets begin with
 * an Ethernet header: those of tunnels without one (IPIP, WireGuard, tun) begin with the network header, and
 * parse_headers is asked for offset 0.
 */
static __always_inline enum verdict find_network(struct packet_context *skb, __u32 *l3_offset)
{
	__be16 protocol;

	*l3_offset = ETH_HLEN;
	if (!load(skb, ETH_HLEN - 2, length_of(skb), &protocol, sizeof(protocol)))
		return VERDICT_TRUNCATED;
	if (protocol == bpf_htons(ETH_P_8021Q) || protocol == bpf_htons(ETH_P_8021AD)) {
		if (has_taken_tag(skb))
			return VERDICT_ETHERTYPE;
		*l3_offset += 4;
		if (!load(skb, *l3_offset - 2, length_of(skb), &protocol, sizeof(protocol)))
			return VERDICT_TRUNCATED;
	}
	return protocol == bpf_htons(FAMILY == 4 ? ETH_P_IP : ETH_P_IPV6) ? VERDICT_PASSED
									  : VERDICT_ETHERTYPE;
}

#endif
