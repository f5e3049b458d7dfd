/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Headers of a packet, never read beyond its end. */
#ifndef TORTIE_PARSE_H
#define TORTIE_PARSE_H

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>
#include "consts.h"

struct eth_header {
	__u8 destination[6];
	__u8 source[6];
	__be16 protocol;
} __attribute__((packed));

struct ipv4_header {
	__u8 version_ihl;
	__u8 tos;
	__be16 total_length;
	__be16 id;
	__be16 fragment;
	__u8 ttl;
	__u8 protocol;
	__be16 checksum;
	__u8 source[4];
	__u8 destination[4];
} __attribute__((packed));

struct ipv6_header {
	__be32 version_class_flow;
	__be16 payload_length;
	__u8 next_header;
	__u8 hop_limit;
	__u8 source[16];
	__u8 destination[16];
} __attribute__((packed));

/* ARP for IPv4 over Ethernet (RFC 826). */
struct arp_packet {
	__be16 hardware_type;
	__be16 protocol_type;
	__u8 hardware_length;
	__u8 protocol_length;
	__be16 operation;
	__u8 sender_mac[6];
	__u8 sender_ip[4];
	__u8 target_mac[6];
	__u8 target_ip[4];
} __attribute__((packed));

#define ARP_HARDWARE_ETHERNET 1
#define ARP_REQUEST 1
#define ARP_REPLY 2

enum icmpv6_type {
	ICMPV6_MLD_QUERY = 130,
	ICMPV6_MLD_REPORT = 131,
	ICMPV6_MLD_DONE = 132,
	ICMPV6_ROUTER_SOLICIT = 133,
	ICMPV6_ROUTER_ADVERT = 134,
	ICMPV6_NEIGHBOUR_SOLICIT = 135,
	ICMPV6_NEIGHBOUR_ADVERT = 136,
	ICMPV6_REDIRECT = 137,
	ICMPV6_MLD2_REPORT = 143,
};

/* ND is only believed with a hop limit no router can have lowered (RFC 4861 7.1). */
#define ND_HOP_LIMIT 255

/*
 * A place in a packet. Offsets, not pointers, because making bytes linear (a sender can keep all but the
 * Ethernet header in fragments) invalidates every pointer into the packet, and the verifier knows.
 */
struct cursor {
	struct __sk_buff *skb;
	__u32 offset;
};

/*
 * Where the linear part of the packet begins and ends now. Volatile, so that each use is a load of its own:
 * kept in a register over a branch, clang treats them as 32-bit numbers, and the verifier no longer as
 * pointers.
 */
static __always_inline void *packet_begin(const struct __sk_buff *skb)
{
	return (void *)(long)*(const volatile __u32 *)&skb->data;
}

static __always_inline void *packet_end(const struct __sk_buff *skb)
{
	return (void *)(long)*(const volatile __u32 *)&skb->data_end;
}

/*
 * The next `length` bytes, and moves behind them; NULL if the packet ends before. Pointers got earlier are
 * void then. Linearises only when it must: it copies the head of a cloned packet, and TCP's are all clones.
 */
static __always_inline void *cursor_take(struct cursor *cursor, __u32 length)
{
	struct __sk_buff *skb = cursor->skb;
	__u32 offset = cursor->offset;
	void *data = packet_begin(skb);

	if (data + offset + length > packet_end(skb)) {
		if (skb->len < offset + length || bpf_skb_pull_data(skb, offset + length))
			return NULL;
		data = packet_begin(skb);
		if (data + offset + length > packet_end(skb))
			return NULL;
	}
	cursor->offset = offset + length;
	return data + offset;
}

#endif
