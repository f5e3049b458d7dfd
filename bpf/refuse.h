/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * A packet turned into the answer that it is refused. For one family (see family.h).
 *
 * TCP gets a RST, all else an ICMP error. An ICMP error to a SYN comes back while connect() still holds its
 * socket, since all of the way is gone by the processor that sends: Linux drops it then (LockDroppedIcmps),
 * and connect() fails with the next SYN, a second later. A segment would wait for the socket.
 */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>
#include "consts.h"
#include "into-pod.h"
#include "l4.h"

#if (FAMILY == 4 && !defined(TORTIE_REFUSE4_H)) || (FAMILY == 6 && !defined(TORTIE_REFUSE6_H))
#if FAMILY == 4
#define TORTIE_REFUSE4_H
#else
#define TORTIE_REFUSE6_H
#endif

#ifndef TORTIE_REFUSE_H
#define TORTIE_REFUSE_H

#define ip_header OF_FAMILY(ip_header)
#define fill_header OF_FAMILY(fill_header)
#define pseudo_sum OF_FAMILY(pseudo_sum)
#define is_answerable OF_FAMILY(is_answerable)
#define refusal_packet OF_FAMILY(refusal_packet)
#define reset_packet OF_FAMILY(reset_packet)
#define fill_reset OF_FAMILY(fill_reset)
#define fill_refusal OF_FAMILY(fill_refusal)
#define send_refusal OF_FAMILY(send_refusal)
#define refuse_packet OF_FAMILY(refuse_packet)

/* What the sender is told. */
enum refusal {
	/* Nobody listens: connect() fails with ECONNREFUSED at once, as does a connected UDP socket. */
	REFUSAL_PORT = 0,
	/* The hop limit is used up. */
	REFUSAL_HOPS = 1,
	/* The packet is longer than the MTU, and may not be cut. */
	REFUSAL_TOO_BIG = 2,
};

/*
 * A router must limit how many errors it sends (RFC 1812 4.3.2.8, RFC 4443 2.4): per device, as many as Linux
 * by itself sends to all. A RST is no longer than what it answers, and isn't counted.
 */
#define REFUSALS_INTERVAL_NS 1000000
#define REFUSALS_AT_ONCE 50

/* bpf_csum_diff's limit. */
#define SUM_BYTES 512
#define SUM_STEPS 3

/* What is being put together on this CPU: an IP packet. */
struct refusal_room {
	__u8 bytes[2048];
} __attribute__((aligned(4)));

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct refusal_room);
} tortie_refusal SEC(".maps");

/* ifindex -> when the device has its whole share again (CLOCK_MONOTONIC, ns); plain stores, which a race may
 * lose. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 4096);
	__type(key, __u32);
	__type(value, __u64);
} tortie_refused SEC(".maps");

/* Whether the device may have another one now; counts it. */
static __always_inline int may_refuse(__u32 ifindex)
{
	__u64 *known = bpf_map_lookup_elem(&tortie_refused, &ifindex);
	__u64 now = bpf_ktime_get_ns();
	__u64 whole = known ? *(const volatile __u64 *)known : 0;

	if (whole < now)
		whole = now;
	if (whole - now >= (__u64)REFUSALS_AT_ONCE * REFUSALS_INTERVAL_NS)
		return 0;
	whole += REFUSALS_INTERVAL_NS;
	if (known)
		*known = whole;
	else
		bpf_map_update_elem(&tortie_refused, &ifindex, &whole, BPF_ANY);
	return 1;
}

/*
 * Back into the pod that the packet came from; a program on clsact's ingress of the pod's host end returns
 * what this returns. The packet goes into the pod at once: tortie_to_pod doesn't see it, and nothing needs to
 * recognise it.
 */
static __always_inline int send_back(struct __sk_buff *skb)
{
	return redirect_into_pod(skb, skb->ifindex);
}

/*
 * A number whose bounds are tested behind this: clang may otherwise test a copy, and the verifier of kernel
 * 6.1 then doesn't know them of the register that is used.
 */
static __always_inline __u64 opaque(__u64 number)
{
	asm volatile("" : "+r"(number));
	return number;
}

static __always_inline __u16 fold_checksum(__u32 sum)
{
	sum = (sum & 0xffff) + (sum >> 16);
	return ~((sum & 0xffff) + (sum >> 16));
}

#endif

#undef ICMP_PROTOCOL
#undef QUOTED_MOST
#if FAMILY == 4
#define ip_header4 ipv4_header
#define ICMP_PROTOCOL PROTOCOL_ICMP
/* As much as an error of 576 bytes has room for (RFC 1812 4.3.2.3). */
#define QUOTED_MOST (576 - 20 - ICMP_HEADER)
#else
#define ip_header6 ipv6_header
#define ICMP_PROTOCOL PROTOCOL_ICMPV6
/* As much as the least MTU of IPv6 has room for (RFC 4443 2.4). */
#define QUOTED_MOST (1280 - 40 - ICMP_HEADER)
#endif

/* An error, in a refusal_room. */
struct refusal_packet {
	struct ip_header ip;
	/* From here on it is what the checksum covers. */
	__u8 type;
	__u8 code;
	__u16 checksum;
	__be16 value[2];
	__u8 quoted[QUOTED_MOST];
	/* The sum is made of whole words. */
	__u8 padding[4];
} __attribute__((packed, aligned(4)));

/* A TCP segment without options or data. */
struct reset_packet {
	struct ip_header ip;
	__be16 source_port;
	__be16 destination_port;
	__be32 sequence;
	__be32 acknowledged;
	/* Header length in words << 4. */
	__u8 offset;
	__u8 flags;
	__be16 window;
	__u16 checksum;
	__be16 urgent;
} __attribute__((packed, aligned(4)));

_Static_assert(__builtin_offsetof(struct refusal_packet, type) + SUM_STEPS * SUM_BYTES <=
		   sizeof(struct refusal_room),
	       "the sum's last step may reach behind the packet");

/* Whether an error about such a packet may be sent at all (RFC 1122 3.2.2, RFC 4443 2.4 e). */
static __always_inline int is_answerable(const struct flow_headers *headers)
{
	const struct flow_tuple *tuple = &headers->tuple;
	__u8 type = tuple->destination_port >> 8;

	if (headers->fragment == FRAGMENT_KIND_LATER)
		return 0;
#if FAMILY == 4
	/* Errors, and types of which nobody knows whether they are. */
	if (tuple->protocol == PROTOCOL_ICMP && (headers->is_error || type > 18))
		return 0;
	/* Multicast, reserved, broadcast; sources that are not one host. */
	return tuple->destination[0] < 224 && tuple->source[0] < 224 && tuple->source[0] != 0 &&
	       tuple->source[0] != 127;
#else
	__u8 bits = 0;

	/* All below 128 are errors; and redirects. */
	if (tuple->protocol == PROTOCOL_ICMPV6 && (type < 128 || type == 137))
		return 0;
	if (tuple->destination[0] == 0xff || tuple->source[0] == 0xff)
		return 0;
	/* Unspecified, loopback. */
#pragma unroll
	for (int i = 0; i < ADDRESS_BYTES - 1; i++)
		bits |= tuple->source[i];
	return bits != 0;
#endif
}

/* The IP header of an answer with so many bytes behind it: from where the packet went to where it came from.
 */
static __always_inline void fill_header(struct ip_header *ip, const struct flow_headers *headers,
					__u8 protocol, __u8 tos, __u32 length)
{
	__builtin_memset(ip, 0, sizeof(*ip));
#if FAMILY == 4
	ip->version_ihl = 0x45;
	ip->tos = tos;
	ip->total_length = bpf_htons(sizeof(*ip) + length);
	/* Don't fragment: it needs no identification then (RFC 6864 4.1). */
	ip->fragment = bpf_htons(0x4000);
	ip->ttl = 64;
	ip->protocol = protocol;
#else
	ip->version_class_flow = bpf_htonl(0x60000000);
	ip->payload_length = bpf_htons(length);
	ip->next_header = protocol;
	ip->hop_limit = 64;
#endif
	__builtin_memcpy(ip->source, headers->tuple.destination, ADDRESS_BYTES);
	__builtin_memcpy(ip->destination, headers->tuple.source, ADDRESS_BYTES);
#if FAMILY == 4
	ip->checksum = fold_checksum(bpf_csum_diff(NULL, 0, (__be32 *)ip, sizeof(*ip), 0));
#endif
}

/* Of a header's addresses, protocol and length (RFC 9293 3.1, RFC 8200 8.1). */
static __always_inline __u32 pseudo_sum(const struct ip_header *ip, __u8 protocol, __u32 length)
{
	return bpf_csum_diff(NULL, 0, (__be32 *)ip->source, 2 * ADDRESS_BYTES, bpf_htonl(length + protocol));
}

/* The RST to a segment, which is no RST itself (RFC 9293 3.10.7.1); 0, or an error. */
static __always_inline int fill_reset(struct __sk_buff *skb, struct reset_packet *answer,
				      const struct flow_headers *headers)
{
	const __u32 length = sizeof(*answer) - sizeof(answer->ip);
	__be32 numbers[2];
	__u8 offset;

	if (bpf_skb_load_bytes(skb, headers->l4_offset + 4, numbers, sizeof(numbers)) ||
	    bpf_skb_load_bytes(skb, headers->l4_offset + 12, &offset, sizeof(offset)))
		return -1;
	__builtin_memset(answer, 0, sizeof(*answer));
	fill_header(&answer->ip, headers, PROTOCOL_TCP, 0, length);
	answer->source_port = bpf_htons(headers->tuple.destination_port);
	answer->destination_port = bpf_htons(headers->tuple.source_port);
	answer->offset = (TCP_HEADER / 4) << 4;
	if (headers->tcp_flags & TCP_ACK) {
		answer->sequence = numbers[1];
		answer->flags = TCP_RST;
	} else {
		/* SYN and FIN have a number of their own. */
		__u32 next = bpf_ntohl(numbers[0]) + headers->end - headers->l4_offset - (offset >> 4) * 4;

		next += !!(headers->tcp_flags & TCP_SYN) + !!(headers->tcp_flags & TCP_FIN);
		answer->acknowledged = bpf_htonl(next);
		answer->flags = TCP_RST | TCP_ACK;
	}
	answer->checksum = fold_checksum(bpf_csum_diff(NULL, 0, (__be32 *)&answer->source_port, TCP_HEADER,
						       pseudo_sum(&answer->ip, PROTOCOL_TCP, length)));
	return 0;
}

/* Everything but the quoted packet, of which `length` bytes are there. */
static __always_inline void fill_refusal(struct refusal_packet *answer, const struct flow_headers *headers,
					 enum refusal refusal, __u32 mtu, __u32 length)
{
	__u32 covered = ICMP_HEADER + length, sum = 0;
	__u64 end;
	/* IPv4's precedence is that of control messages (RFC 1812 4.3.2.5). */
	__u8 tos = (answer->quoted[1] & 0x1e) | 0xc0;

	fill_header(&answer->ip, headers, ICMP_PROTOCOL, tos, covered);
	if (FAMILY == 6)
		sum = pseudo_sum(&answer->ip, ICMP_PROTOCOL, covered);
	answer->checksum = 0;
	answer->value[0] = 0;
	answer->value[1] = 0;
	switch (refusal) {
	case REFUSAL_HOPS:
		answer->type = FAMILY == 4 ? 11 : 3;
		answer->code = 0;
		break;
	case REFUSAL_TOO_BIG:
		answer->type = FAMILY == 4 ? 3 : 2;
		answer->code = FAMILY == 4 ? 4 : 0;
		/* In IPv4 a word of 16 bits (RFC 1191 4), in IPv6 one of 32 (RFC 4443 3.2). */
		answer->value[1] = bpf_htons(mtu > 0xffff ? 0xffff : mtu);
		break;
	default:
		answer->type = FAMILY == 4 ? 3 : 1;
		answer->code = FAMILY == 4 ? 3 : 4;
	}
	end = opaque(length);
	if (end <= QUOTED_MOST)
		__builtin_memset(answer->quoted + end, 0, sizeof(answer->padding));
	covered = (covered + 3) & ~3U;
#pragma unroll
	for (int step = 0; step < SUM_STEPS; step++) {
		__u64 bytes = opaque(covered);

		if (bytes > SUM_BYTES)
			bytes = SUM_BYTES;
		sum = bpf_csum_diff(NULL, 0, (__be32 *)(&answer->type + step * SUM_BYTES), bytes, sum);
		covered -= bytes;
	}
	answer->checksum = fold_checksum(sum);
}

/* Puts `length` bytes of IP in the place of the packet. 0, or an error: then there is no packet any more. */
static __always_inline int send_refusal(struct __sk_buff *skb, const struct refusal_room *answer,
					__u32 length)
{
	__u8 macs[12], swapped[12];
	__u64 bytes;
	__u32 old;

	if (bpf_skb_load_bytes(skb, 0, macs, sizeof(macs)))
		return -1;
	__builtin_memcpy(swapped, macs + 6, 6);
	__builtin_memcpy(swapped + 6, macs, 6);
	/*
	 * All that was there goes, and as much new comes behind it: so the place of a checksum that the
	 * device was to make (CHECKSUM_PARTIAL) lies before the packet, and the kernel forgets about it.
	 * Long packets are cut first, since there is a limit to what can be added; that also makes an
	 * ordinary packet of one that was many (GSO).
	 */
	if (skb->len > sizeof(struct refusal_room) &&
	    bpf_skb_change_tail(skb, sizeof(struct refusal_room), 0))
		return -1;
	old = skb->len;
	if (bpf_skb_change_tail(skb, old + ETH_HLEN + length, 0) ||
	    bpf_skb_adjust_room(skb, -(__s32)old, BPF_ADJ_ROOM_MAC, 0))
		return -1;
	bytes = opaque(length);
	if (bytes == 0 || bytes > sizeof(*answer))
		return -1;
	if (bpf_skb_store_bytes(skb, ETH_HLEN, answer, bytes, BPF_F_RECOMPUTE_CSUM | BPF_F_INVALIDATE_HASH))
		return -1;
	return bpf_skb_store_bytes(skb, 0, swapped, sizeof(swapped), 0);
}

/*
 * Turns the packet into the answer to its sender, from the address that it was sent to, MACs included; call
 * it before the packet is translated, since it quotes it. `mtu`: of REFUSAL_TOO_BIG, else 0. Returns 1: send
 * it (send_back); 0: there is no answer to such a packet (an error, a RST, a later fragment, a broadcast, a
 * source that is no host), or the device had enough of errors: drop it. All that was known of the packet
 * (`headers`) is void then.
 */
__noinline int refuse_packet(struct __sk_buff *skb, const struct flow_headers *headers, enum refusal refusal,
			     __u32 mtu)
{
	struct refusal_packet *error;
	struct refusal_room *room;
	__u32 first = 0;
	__u64 length;
	__u8 group;

	/* Frames with a tag inside have another length in front. */
	if (!headers || headers->l3_offset != ETH_HLEN || !is_answerable(headers))
		return 0;
	/* Sent to more than one station. */
	if (bpf_skb_load_bytes(skb, 0, &group, 1) || group & 1)
		return 0;
	room = bpf_map_lookup_elem(&tortie_refusal, &first);
	if (!room)
		return 0;
	/* Of a first fragment nobody knows how long the segment is. */
	if (refusal == REFUSAL_PORT && headers->tuple.protocol == PROTOCOL_TCP &&
	    headers->fragment == FRAGMENT_KIND_NONE) {
		if (headers->tcp_flags & TCP_RST || fill_reset(skb, (struct reset_packet *)room, headers))
			return 0;
		return send_refusal(skb, room, sizeof(struct reset_packet)) == 0;
	}
	if (!may_refuse(skb->ifindex))
		return 0;
	error = (struct refusal_packet *)room;
	length = opaque(headers->end - ETH_HLEN);
	if (length > QUOTED_MOST)
		length = QUOTED_MOST;
	if (length < sizeof(struct ip_header) || bpf_skb_load_bytes(skb, ETH_HLEN, error->quoted, length))
		return 0;
	fill_refusal(error, headers, refusal, mtu, length);
	return send_refusal(skb, room, __builtin_offsetof(struct refusal_packet, quoted) + length) == 0;
}

#endif
