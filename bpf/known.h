/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What the short way (established.h, established-net.h) reads and changes of a packet. For one family (see
 * family.h).
 */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>
#include "consts.h"
#include "parse.h"
#include "endpoint-maps.h"
#include "packet.h"
#include "track.h"
#include "rewrite.h"

#if (FAMILY == 4 && !defined(TORTIE_KNOWN4_H)) || (FAMILY == 6 && !defined(TORTIE_KNOWN6_H))
#if FAMILY == 4
#define TORTIE_KNOWN4_H
#else
#define TORTIE_KNOWN6_H
#endif

#ifndef TORTIE_KNOWN_H
#define TORTIE_KNOWN_H

/* No action of tc: the long way. */
#define GO_ON (-2)

#define known_packet OF_FAMILY(known_packet)
#define read_known OF_FAMILY(read_known)
#define find_known OF_FAMILY(find_known)
#define count_known OF_FAMILY(count_known)
#define pod_at OF_FAMILY(pod_at)
#define fits_known OF_FAMILY(fits_known)
#define forward_known OF_FAMILY(forward_known)

#endif

#if FAMILY == 4
#define IP_HEADER struct ipv4_header
#else
#define IP_HEADER struct ipv6_header
#endif

/* What is read of it. */
struct known_packet {
	struct flow_key key;
	/* Which end of the key has sent it; whether that is the opener. */
	__u32 sender;
	__u32 from_opener;
	struct flow_record *element;
	__u64 state;
	/* When it was found: coarse ns of CLOCK_MONOTONIC. */
	__u64 now;
	__u32 length;
	__u8 protocol;
	__u8 tcp_flags;
	__u8 hops;
	/* Of the transport header. */
	__u8 header_bytes;
#if FAMILY == 4
	/* Of the IP header, up to the checksum. */
	__u32 words[3];
#else
	/* The IP header's first word. */
	__be32 version_class_flow;
#endif
};

/*
 * Reads a packet without options, extension headers or fragments whose headers are in the linear part: 1, or
 * 0: it is none. The tests are those of parse_headers.
 */
static __always_inline int read_known(struct __sk_buff *skb, struct known_packet *known)
{
	__u8 *begin = packet_begin(skb);
	const IP_HEADER *ip = (const IP_HEADER *)(begin + ETH_HLEN);
	const __u8 *l4 = (const __u8 *)(ip + 1);
	__u32 ip_bytes, header_bytes;
	struct flow_tuple tuple;

	if ((void *)(l4 + UDP_HEADER) > packet_end(skb))
		return 0;
	known->length = skb->len;
#if FAMILY == 4
	if (ip->version_ihl != 0x45 || ip->fragment & bpf_htons(IP_MORE_FRAGMENTS | IP_FRAGMENT_OFFSET))
		return 0;
	known->protocol = ip->protocol;
	known->hops = ip->ttl;
	ip_bytes = bpf_ntohs(ip->total_length);
#else
	if ((ip->version_class_flow & bpf_htonl(0xf0000000)) != bpf_htonl(0x60000000))
		return 0;
	known->protocol = ip->next_header;
	known->hops = ip->hop_limit;
	ip_bytes = sizeof(*ip) + bpf_ntohs(ip->payload_length);
#endif
	known->tcp_flags = 0;
#if FAMILY == 6
	known->version_class_flow = ip->version_class_flow;
#endif
	header_bytes = UDP_HEADER;
	if (known->protocol == PROTOCOL_TCP) {
		if ((void *)(l4 + TCP_HEADER) > packet_end(skb))
			return 0;
		header_bytes = (l4[12] >> 4) * 4;
		known->tcp_flags = l4[13];
		if (header_bytes < TCP_HEADER || known->tcp_flags & (TCP_SYN | TCP_FIN | TCP_RST))
			return 0;
	} else if (known->protocol != PROTOCOL_UDP) {
		return 0;
	}
	known->header_bytes = header_bytes;
	/* (0, which the long way understands where a packet is too large for the field, is too little.) */
	if (ip_bytes < sizeof(*ip) + header_bytes || ETH_HLEN + ip_bytes > known->length)
		return 0;
	/* By words: where loads must be aligned, the network header is. */
#pragma unroll
	for (int i = 0; i < ADDRESS_BYTES / 4; i++) {
		((__u32 *)tuple.source)[i] = ((const __u32 *)ip->source)[i];
		((__u32 *)tuple.destination)[i] = ((const __u32 *)ip->destination)[i];
	}
	tuple.source_port = bpf_ntohs(((const __be16 *)l4)[0]);
	tuple.destination_port = bpf_ntohs(((const __be16 *)l4)[1]);
	tuple.protocol = known->protocol;
	known->sender = key_of_tuple(&tuple, &known->key);
#if FAMILY == 4
#pragma unroll
	for (int i = 0; i < 3; i++)
		known->words[i] = ((const __u32 *)ip)[i];
#endif
	return 1;
}

/* Finds the record, if the packet changes nothing of its flags: 1 or 0. known->element is NULL if it found
 * none at all. */
static __always_inline int find_known(struct known_packet *known)
{
	const __u64 not_here = FLOW_FLAG_POINTER | FLOW_FLAG_DESTINATION | FLOW_FLAG_SOURCE |
			       FLOW_FLAG_MARKED | FLOW_FLAG_RESET_OPENER | FLOW_FLAG_RESET_OTHER;
	struct flow_record *element = answered_element(&known->key);
	__u64 state;

	known->element = element;
	if (!element)
		return 0;
	/* As read_flow, of which nothing but the key is read: see slot in struct flow_record. */
	state = *(const volatile __u64 *)&element->state;
	order_reads();
	if (__builtin_memcmp(&element->key, &known->key, sizeof(known->key)))
		return 0;
	order_reads();
	if (*(const volatile __u64 *)&element->state != state || state & not_here)
		return 0;
	known->state = state;
	known->now = bpf_ktime_get_coarse_ns();
	known->from_opener = known->sender == opener_of(state);
	return (flags_of_packet(state, known->from_opener, known->protocol, known->tcp_flags) & ~state) == 0;
}

/* touch_flow, where no flag changes. */
static __always_inline void count_known(const struct known_packet *known, int is_counted)
{
	struct flow_record *element = known->element;

	if (element->last_seen != known->now)
		element->last_seen = known->now;
	if (!is_counted)
		return;
	if (known->from_opener) {
		element->packets[0] += 1;
		element->bytes[0] += known->length;
	} else {
		element->packets[1] += 1;
		element->bytes[1] += known->length;
	}
}

/*
 * The slot that the record names for an end, if it is (still) the slot of the pod whose address that is. An
 * address is taken out of its slot before anything else may happen to either, and the slot isn't another
 * pod's before a grace period after that.
 */
static __always_inline const struct pod_slot *pod_at(const struct known_packet *known, __u32 end)
{
	__u32 slot = *(const volatile __u32 *)&known->element->slot[end & 1];
	const struct pod_slot *pod = bpf_map_lookup_elem(&tortie_pods, &slot);

	if (!slot || !pod)
		return NULL;
	if (compare_addresses(known->key.end[end & 1].address, FAMILY == 4 ? pod->address4 : pod->address6))
		return NULL;
	order_reads();
	return pod;
}

/* fits_device. What every link takes by which IP goes at all (RFC 791, RFC 8200) needs no look at this one.
 */
static __always_inline int fits_known(struct __sk_buff *skb, const struct known_packet *known, __u32 ifindex)
{
	__u32 mtu;

	return known->length <= ETH_HLEN + (FAMILY == 4 ? 68 : 1280) || fits_device(skb, ifindex, &mtu);
}

/* Makes a frame what it is behind the node that forwards it: VERDICT_PASSED or VERDICT_REWRITE. */
static __always_inline enum verdict forward_known(struct __sk_buff *skb, const struct known_packet *known,
						  const struct pod_slot *pod)
{
#if FAMILY == 4
	/* All of it by one call. */
	struct {
		__u16 _alignment;
		__u8 macs[12];
		__be16 protocol;
		__u32 words[3];
	} frame = {.protocol = bpf_htons(ETH_P_IP),
		   .words = {known->words[0], known->words[1], known->words[2]}};
	/* The third word: hop limit, protocol, checksum, which grows by what the hop limit's word loses
	 * (RFC 1624). */
	__u8 *word = (__u8 *)&frame.words[2];
	__u32 sum = *(__u16 *)(word + 2) + bpf_htons(0x0100);

	word[0] -= 1;
	*(__u16 *)(word + 2) = sum + (sum >= 0xffff);
	__builtin_memcpy(frame.macs, pod->pod_mac, 6);
	__builtin_memcpy(frame.macs + 6, pod->host_mac, 6);
	return bpf_skb_store_bytes(skb, 0, frame.macs, sizeof(frame) - 2, 0) ? VERDICT_REWRITE
									     : VERDICT_PASSED;
#else
	struct flow_headers headers = {.l3_offset = ETH_HLEN, .hops = known->hops};
	enum verdict verdict = lower_hops(skb, &headers);

	return verdict == VERDICT_PASSED ? set_macs(skb, pod->pod_mac, pod->host_mac) : verdict;
#endif
}

#undef IP_HEADER
#endif
