/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * A flow's verdict, looked up in what the agent compiled: docs/design/ebpf-policy.md. For one family (see
 * family.h); maps that both families share have one name. Whatever isn't as it should be denies.
 */
#include "family.h"

#if (FAMILY == 4 && !defined(TORTIE_CLASSIFY4_H)) || (FAMILY == 6 && !defined(TORTIE_CLASSIFY6_H))
#if FAMILY == 4
#define TORTIE_CLASSIFY4_H
#else
#define TORTIE_CLASSIFY6_H
#endif

#include "search.h"

#ifndef TORTIE_CLASSIFY_NAMES
#define TORTIE_CLASSIFY_NAMES
#define flow_tuple OF_FAMILY(flow_tuple)
#define net_key OF_FAMILY(net_key)
#define named_key OF_FAMILY(named_key)
#define tortie_addr OF_FAMILY(tortie_addr)
#define tortie_net OF_FAMILY(tortie_net)
#define tortie_named OF_FAMILY(tortie_named)
#define find_address OF_FAMILY(find_address)
#define find_named OF_FAMILY(find_named)
#define service_class OF_FAMILY(service_class)
#define source_port_class OF_FAMILY(source_port_class)
#define find_service OF_FAMILY(find_service)
#define find_source_port OF_FAMILY(find_source_port)
#define classify OF_FAMILY(classify)
#endif

/* What policy is asked about. Addresses in network byte order, ports in the machine's. */
struct flow_tuple {
	__u8 source[ADDRESS_BYTES];
	__u8 destination[ADDRESS_BYTES];
	/* ICMP: the identifier of an echo and its like, else 0. 0 where the protocol has no ports. */
	__u16 source_port;
	/* ICMP: type << 8 | code. */
	__u16 destination_port;
	__u8 protocol;
	__u8 _reserved[3];
};

struct net_key {
	__u32 prefix_len;
	__u8 address[ADDRESS_BYTES];
};

struct named_key {
	__u8 address[ADDRESS_BYTES];
	/* The machine's byte order. */
	__u16 port;
	__u8 protocol;
	__u8 _reserved;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 131072);
	__type(key, __u8[ADDRESS_BYTES]);
	__type(value, struct address_info);
} tortie_addr SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 131072);
	__type(key, struct net_key);
	__type(value, struct address_info);
} tortie_net SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 65536);
	__type(key, struct named_key);
	__type(value, __u32);
} tortie_named SEC(".maps");

/* What the address is, as the most exact thing that was said of it; class 0 and no hop if nothing was. */
static __always_inline enum found find_address(const __u8 *address, struct address_info *info)
{
	struct net_key key = {.prefix_len = 8 * ADDRESS_BYTES};

	/* A copy: before 6.2 the verifier takes no key out of memory that a function was handed. */
	__builtin_memcpy(key.address, address, ADDRESS_BYTES);
	for (int i = 0; i < STABLE_READS; i++) {
		const struct address_info *found = bpf_map_lookup_elem(&tortie_addr, key.address);
		const struct address_info *net;

		if (found) {
			info->class = *(const volatile __u32 *)&found->class;
			info->hop = *(const volatile __u32 *)&found->hop;
			order_reads();
			if (bpf_map_lookup_elem(&tortie_addr, key.address) != found)
				continue;
			order_reads();
			if (*(const volatile __u32 *)&found->class == info->class &&
			    *(const volatile __u32 *)&found->hop == info->hop)
				return FOUND_VALUE;
			continue;
		}
		order_reads();
		net = bpf_map_lookup_elem(&tortie_net, &key);
		*info = net ? *net : (struct address_info){};
		/* The address may have got an element of its own, and the prefix lost what it said of it, in
		 * between. Nor is one miss believed: see find_named.
		 */
		order_reads();
		if (!bpf_map_lookup_elem(&tortie_addr, key.address))
			return net ? FOUND_VALUE : FOUND_NONE;
	}
	*info = (struct address_info){};
	return FOUND_UNSTABLE;
}

#define BELIEVED_MISSES 3

/*
 * The class of a named tuple. A walk through a bucket can miss a key that is there, while that is replaced: a
 * neighbour on which the walk stands goes at the same time, and its memory becomes the key's new element,
 * before which the walk has passed. So it is looked for some times before a miss is believed: of 10^8 misses
 * of what was there, beside a writer that did nothing else, a few came twice.
 */
static __always_inline enum found find_named(const __u8 *address, __u16 port, __u8 protocol, __u32 *class)
{
	struct named_key key = {.port = port, .protocol = protocol};
	int misses = 0;

	__builtin_memcpy(key.address, address, ADDRESS_BYTES);
	for (int i = 0; i < STABLE_READS; i++) {
		const __u32 *found = bpf_map_lookup_elem(&tortie_named, &key);

		if (!found) {
			if (++misses == BELIEVED_MISSES)
				return FOUND_NONE;
			order_reads();
			continue;
		}
		*class = *(const volatile __u32 *)found;
		order_reads();
		if (bpf_map_lookup_elem(&tortie_named, &key) != found)
			continue;
		order_reads();
		if (*(const volatile __u32 *)found == *class)
			return FOUND_VALUE;
	}
	return FOUND_UNSTABLE;
}

static __always_inline __u32 service_class(const struct flow_tuple *tuple)
{
	switch (tuple->protocol) {
	case PROTOCOL_TCP:
		return port_class(PORT_TABLE_TCP, tuple->destination_port);
	case PROTOCOL_UDP:
		return port_class(PORT_TABLE_UDP, tuple->destination_port);
	case PROTOCOL_SCTP:
		return port_class(PORT_TABLE_SCTP, tuple->destination_port);
#if FAMILY == 4
	case PROTOCOL_ICMP:
		return port_class(PORT_TABLE_ICMP, tuple->destination_port);
#else
	case PROTOCOL_ICMPV6:
		return port_class(PORT_TABLE_ICMPV6, tuple->destination_port);
#endif
	default:
		return port_class(PORT_TABLE_OTHER, tuple->protocol);
	}
}

static __always_inline __u32 source_port_class(const struct flow_tuple *tuple)
{
	switch (tuple->protocol) {
	case PROTOCOL_TCP:
		return port_class(PORT_TABLE_SOURCE_TCP, tuple->source_port);
	case PROTOCOL_UDP:
		return port_class(PORT_TABLE_SOURCE_UDP, tuple->source_port);
	case PROTOCOL_SCTP:
		return port_class(PORT_TABLE_SOURCE_SCTP, tuple->source_port);
	default:
		return 0;
	}
}

/* The class of the destination's service, and of the source's: by a named tuple where the unit asks for
 * those, else by port. */
static __always_inline enum found find_service(__u32 mask, const struct flow_tuple *tuple, __u32 *class)
{
	enum found named = FOUND_NONE;

	if (mask & UNIT_NAMED(DIMENSION_SERVICE) && has_ports(tuple->protocol))
		named = find_named(tuple->destination, tuple->destination_port, tuple->protocol, class);
	if (named == FOUND_NONE)
		*class = service_class(tuple);
	return named;
}

static __always_inline enum found find_source_port(__u32 mask, const struct flow_tuple *tuple, __u32 *class)
{
	enum found named = FOUND_NONE;

	if (mask & UNIT_NAMED(DIMENSION_SOURCE_PORT) && has_ports(tuple->protocol))
		named = find_named(tuple->source, tuple->source_port, tuple->protocol, class);
	if (named == FOUND_NONE)
		*class = source_port_class(tuple);
	return named;
}

/*
 * What the unit says of the flow, in `decision`: 0, or -1 for a missing argument. Counts the rules that
 * matched, with the packet's bytes. A function of its own, which the verifier goes through once for all who
 * call it.
 */
__noinline int classify(__u32 unit, const struct flow_tuple *tuple, __u32 bytes, struct decision *decision)
{
	struct search search = {.decision = decision, .bytes = bytes};
	const struct unit_record *rules;
	const __u32 *place;
	__u32 record, class;

	if (!tuple || !decision)
		return -1;
	__builtin_memset(decision, 0, sizeof(*decision));
	decision->action = RULE_ACTION_DENY;
	decision->rule = RULE_INDEX_NONE;
	place = bpf_map_lookup_elem(&tortie_units, &unit);
	/* Read once: it may be another the next time. */
	record = place ? *(const volatile __u32 *)place : 0;
	/* Classes only then: an older class might be none that the record knows. */
	order_reads();
	decision->reason = DECISION_REASON_UNSTABLE;
	if (find_address(tuple->destination, &decision->destination) == FOUND_UNSTABLE)
		return 0;
	decision->reason = DECISION_REASON_NO_UNIT;
	if (!record)
		return 0;
	rules = bpf_map_lookup_elem(&tortie_records, &record);
	if (!rules)
		return 0;
	search.chunks = rules->chunks;
	search.first_rule = rules->first_rule;
	search.mask = rules->mask;
	decision->reason = DECISION_REASON_BROKEN;
	if (search.chunks > UNIT_CHUNKS)
		return 0;
	decision->reason = DECISION_REASON_UNSTABLE;
	if (search.mask & 1U << DIMENSION_SOURCE) {
		if (find_address(tuple->source, &decision->source) == FOUND_UNSTABLE)
			return 0;
		find_row(&search, record, rules, DIMENSION_SOURCE, decision->source.class);
	}
	if (search.mask & 1U << DIMENSION_DESTINATION)
		find_row(&search, record, rules, DIMENSION_DESTINATION, decision->destination.class);
	if (search.mask & 1U << DIMENSION_SERVICE) {
		if (find_service(search.mask, tuple, &class) == FOUND_UNSTABLE)
			return 0;
		find_row(&search, record, rules, DIMENSION_SERVICE, class);
	}
	if (search.mask & 1U << DIMENSION_SOURCE_PORT) {
		if (find_source_port(search.mask, tuple, &class) == FOUND_UNSTABLE)
			return 0;
		find_row(&search, record, rules, DIMENSION_SOURCE_PORT, class);
	}
	decision->reason = DECISION_REASON_NO_RULE;
	/* A pass may leave out chunks, and each step takes one at least. */
	bpf_loop(search.chunks, search_chunk, &search, 0);
	return 0;
}

#endif
