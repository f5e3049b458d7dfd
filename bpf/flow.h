/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * One flow: its key, how its record is read, what a packet changes in its state. docs/design/ebpf-flows.md
 * says why. For one family (see family.h).
 */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>
#include "consts.h"
#include "search.h"
#include "flow-maps.h"
#include "flow-shard.h"
#include "l4.h"

#if (FAMILY == 4 && !defined(TORTIE_FLOW4_H)) || (FAMILY == 6 && !defined(TORTIE_FLOW6_H))
#if FAMILY == 4
#define TORTIE_FLOW4_H
#else
#define TORTIE_FLOW6_H
#endif

#ifndef TORTIE_FLOW_H
#define TORTIE_FLOW_H

#define is_icmp OF_FAMILY(is_icmp)
#define role_of_icmp OF_FAMILY(role_of_icmp)
#define compare_addresses OF_FAMILY(compare_addresses)
#define compare_ends OF_FAMILY(compare_ends)
#define key_of_tuple OF_FAMILY(key_of_tuple)
#define key_of_ends OF_FAMILY(key_of_ends)
#define opener_of OF_FAMILY(opener_of)
#define read_flow OF_FAMILY(read_flow)
#define tuple_between OF_FAMILY(tuple_between)

/* Unanswered UDP is kept as if it were answered when it is so old. */
#define ONE_WAY_AFTER_NS 3000000000ULL

/* What an ICMP message is in its flow. */
enum icmp_role {
	/* It has no flow: judged by itself. */
	ICMP_ROLE_ALONE = 0,
	ICMP_ROLE_REQUEST = 1,
	ICMP_ROLE_ANSWER = 2,
};

/* A TCP packet that opens a connection. */
static __always_inline int is_syn(__u8 protocol, __u8 tcp_flags)
{
	return protocol == PROTOCOL_TCP && (tcp_flags & (TCP_SYN | TCP_ACK | TCP_RST | TCP_FIN)) == TCP_SYN;
}

/* A SYN begins another flow on it. */
static __always_inline int is_closed(__u64 state)
{
	const __u64 fins = FLOW_FLAG_FIN_OPENER | FLOW_FLAG_FIN_OTHER;

	return state & (FLOW_FLAG_RESET_OPENER | FLOW_FLAG_RESET_OTHER) || (state & fins) == fins;
}

static __always_inline int is_translated(__u64 state)
{
	return (state & (FLOW_FLAG_DESTINATION | FLOW_FLAG_SOURCE)) != 0;
}

/* The flags that a packet adds to those of its flow. */
static __always_inline __u64 flags_of_packet(__u64 state, int from_opener, __u8 protocol, __u8 tcp_flags)
{
	__u64 flags = from_opener ? 0 : FLOW_FLAG_ANSWERED;

	if (protocol != PROTOCOL_TCP)
		return flags;
	if (tcp_flags & TCP_RST)
		return flags | (from_opener ? FLOW_FLAG_RESET_OPENER : FLOW_FLAG_RESET_OTHER);
	if (tcp_flags & TCP_FIN)
		flags |= from_opener ? FLOW_FLAG_FIN_OPENER : FLOW_FLAG_FIN_OTHER;
	if (from_opener && state & FLOW_FLAG_ANSWERED && (tcp_flags & (TCP_SYN | TCP_ACK)) == TCP_ACK)
		flags |= FLOW_FLAG_ESTABLISHED;
	return flags;
}

/*
 * The flags that a packet takes off: who goes on has not reset the connection. A RST with the right addresses
 * and ports may be anybody's, and the ends, which know its sequence number, may have passed it over.
 */
static __always_inline __u64 flags_taken_off(int from_opener, __u8 protocol, __u8 tcp_flags)
{
	if (protocol != PROTOCOL_TCP || (tcp_flags & (TCP_SYN | TCP_ACK | TCP_RST)) != TCP_ACK)
		return 0;
	return from_opener ? FLOW_FLAG_RESET_OPENER : FLOW_FLAG_RESET_OTHER;
}

/*
 * Adds flags to a record whose state was `state`, and takes others and the sweep's mark off. Nothing happens
 * to an element that is another flow's by now; one of this flow is tried again, since other packets of it
 * change it too.
 */
static __always_inline void change_state(__u64 *place, __u64 state, __u64 flags, __u64 off)
{
#pragma unroll
	for (int i = 0; i < 4; i++) {
		__u64 next = (state | flags) & ~(off | FLOW_FLAG_MARKED);
		__u64 found;

		if (next == state)
			return;
		found = __sync_val_compare_and_swap(place, state, next);
		if (found == state || found >> 32 != state >> 32)
			return;
		state = found;
	}
}

/* Never 0. */
static __always_inline __u64 new_cookie(void)
{
	return bpf_get_prandom_u32() | 1;
}

#endif

static __always_inline int is_icmp(__u8 protocol)
{
	return protocol == (FAMILY == 4 ? PROTOCOL_ICMP : PROTOCOL_ICMPV6);
}

/* By type; `*request` is the type of the request that it is or answers. */
static __always_inline enum icmp_role role_of_icmp(__u8 type, __u8 *request)
{
	*request = type;
#if FAMILY == 4
	if (type == 0) {
		*request = 8;
		return ICMP_ROLE_ANSWER;
	}
	if (!has_icmp_id(type))
		return ICMP_ROLE_ALONE;
	/* Requests are 8, 13, 15, 17; the answer of the latter three follows them. */
	if (type == 14 || type == 16 || type == 18) {
		*request = type - 1;
		return ICMP_ROLE_ANSWER;
	}
	return ICMP_ROLE_REQUEST;
#else
	if (type == 129)
		*request = 128;
	return type == 129 ? ICMP_ROLE_ANSWER : type == 128 ? ICMP_ROLE_REQUEST : ICMP_ROLE_ALONE;
#endif
}

/* Negative, 0 or positive, as memcmp. */
static __always_inline int compare_addresses(const __u8 *a, const __u8 *b)
{
#pragma unroll
	for (int i = 0; i < ADDRESS_BYTES; i += 4) {
		__u32 x = bpf_ntohl(*(const __u32 *)(a + i));
		__u32 y = bpf_ntohl(*(const __u32 *)(b + i));

		if (x != y)
			return x < y ? -1 : 1;
	}
	return 0;
}

/* Which of the two comes first in a key: the smaller address, then the smaller port. */
static __always_inline int compare_ends(const struct flow_end *a, const struct flow_end *b)
{
	int order = compare_addresses(a->address, b->address);

	return order ? order : (int)a->port - (int)b->port;
}

static __always_inline void key_of_ends(const struct flow_end *a, const struct flow_end *b, __u8 protocol,
					struct flow_key *key)
{
	int order = compare_ends(a, b);

	__builtin_memset(key, 0, sizeof(*key));
	key->end[0] = order <= 0 ? *a : *b;
	key->end[1] = order <= 0 ? *b : *a;
	key->protocol = protocol;
}

/* The key of a packet's flow. Returns which end of it is the sender. */
static __always_inline __u32 key_of_tuple(const struct flow_tuple *tuple, struct flow_key *key)
{
	int order = compare_addresses(tuple->source, tuple->destination);
	__u16 source_port = 0, destination_port = 0;
	__u32 sender;

	if (has_ports(tuple->protocol)) {
		source_port = tuple->source_port;
		destination_port = tuple->destination_port;
		if (order == 0)
			order = (int)source_port - (int)destination_port;
	}
	sender = order > 0;
	__builtin_memset(key, 0, sizeof(*key));
	key->protocol = tuple->protocol;
	if (sender) {
		__builtin_memcpy(key->end[0].address, tuple->destination, ADDRESS_BYTES);
		__builtin_memcpy(key->end[1].address, tuple->source, ADDRESS_BYTES);
	} else {
		__builtin_memcpy(key->end[0].address, tuple->source, ADDRESS_BYTES);
		__builtin_memcpy(key->end[1].address, tuple->destination, ADDRESS_BYTES);
	}
	if (is_icmp(tuple->protocol)) {
		__u8 request;
		int is_answer = role_of_icmp(tuple->destination_port >> 8, &request) == ICMP_ROLE_ANSWER;

		/* Who pings itself is end 0, and answers as end 1. */
		if (order == 0)
			sender = is_answer;
		key->end[0].port = tuple->source_port;
		key->end[1].port = request << 1 | (is_answer ? !sender : sender);
		return sender;
	}
	key->end[sender].port = source_port;
	key->end[!sender].port = destination_port;
	return sender;
}

static __always_inline __u32 opener_of(__u64 state)
{
	return state & FLOW_FLAG_OPENER_1 ? 1 : 0;
}

/*
 * Copies a record: 1, or 0 if the element is not this key's (any more). An element may become another flow's
 * at any time, and is written from its begin to its end: if the key, which is read last, is ours, the body
 * was; if the state is the same before and after, it was one record throughout.
 */
static __always_inline int read_flow(const struct flow_record *element, const struct flow_key *key,
				     struct flow_record *copy)
{
	__u64 before = *(const volatile __u64 *)&element->state;

	order_reads();
	copy->before = element->before;
	copy->source_before = element->source_before;
	copy->created = element->created;
	copy->slot[0] = element->slot[0];
	copy->slot[1] = element->slot[1];
	order_reads();
	copy->key = *(const volatile struct flow_key *)&element->key;
	copy->state = *(const volatile __u64 *)&element->state;
	return before == copy->state && __builtin_memcmp(&copy->key, key, sizeof(*key)) == 0;
}

/* A tuple from end to end. */
static __always_inline void tuple_between(const struct flow_end *source, const struct flow_end *destination,
					  __u8 protocol, struct flow_tuple *tuple)
{
	__builtin_memset(tuple, 0, sizeof(*tuple));
	__builtin_memcpy(tuple->source, source->address, ADDRESS_BYTES);
	__builtin_memcpy(tuple->destination, destination->address, ADDRESS_BYTES);
	tuple->source_port = source->port;
	tuple->destination_port = destination->port;
	tuple->protocol = protocol;
}

#endif
