/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The programs of rewrite.bpf.c, for one family. */
#include "../../bpf/l4.h"
#include "../../bpf/rewrite.h"
#include "../../bpf/refuse.h"
#include "../../bpf/service.h"
#include "../../bpf/fragment.h"

#ifndef REWRITE_NAMES
#define REWRITE_NAMES
#define wanted OF_FAMILY(wanted)
#define chosen OF_FAMILY(chosen)
#define service_rule OF_FAMILY(service_rule)
#define parse_frame OF_FAMILY(parse_frame)
#define is_end OF_FAMILY(is_end)
#define set_end OF_FAMILY(set_end)
#define translate_of_family OF_FAMILY(translate_of_family)
#endif

/* What a packet is to become; what came of it. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct flow_tuple);
} wanted SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct backend);
} chosen SEC(".maps");

/* For translate_flow: a Service with one backend; at its dead port it has none. */
struct service_rule {
	struct backend front;
	struct backend back;
	__u16 dead_port;
	__u16 _reserved;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct service_rule);
} OF_FAMILY(rules) SEC(".maps");

static __always_inline enum verdict parse_frame(struct __sk_buff *skb, struct flow_headers *headers)
{
	__u32 l3_offset;
	enum verdict verdict = find_network(skb, &l3_offset);

	return verdict == VERDICT_PASSED ? parse_headers(skb, l3_offset, 0, headers) : verdict;
}

/* The frame's tuple becomes that in `wanted`; of an ICMP error, the quoted one's. Returns the verdict. */
SEC("tc")
int OF_FAMILY(translate)(struct __sk_buff *skb)
{
	struct flow_headers headers = {}, quoted = {};
	struct flow_tuple to;
	const struct flow_tuple *found;
	__u32 first = 0;
	enum verdict verdict = parse_frame(skb, &headers);

	found = bpf_map_lookup_elem(&wanted, &first);
	if (verdict != VERDICT_PASSED || !found)
		return 1000 + verdict;
	to = *found;
	if (!headers.is_error)
		return rewrite_packet(skb, &headers, &to);
	verdict = parse_headers(skb, headers.l4_offset + ICMP_HEADER, headers.end, &quoted);
	return verdict == VERDICT_PASSED ? rewrite_error(skb, &headers, &quoted, &to) : 2000 + (int)verdict;
}

/* Refused as cb[0] says, with the MTU in cb[1]. Returns what refuse_packet does. */
SEC("tc")
int OF_FAMILY(refuse)(struct __sk_buff *skb)
{
	struct flow_headers headers = {};
	enum verdict verdict = parse_frame(skb, &headers);

	return verdict == VERDICT_PASSED ? refuse_packet(skb, &headers, skb->cb[0], skb->cb[1])
					 : 1000 + (int)verdict;
}

/* One hop, and other MACs. */
SEC("tc")
int OF_FAMILY(forward)(struct __sk_buff *skb)
{
	const __u8 to[6] = {2, 1, 1, 1, 1, 1}, from[6] = {2, 2, 2, 2, 2, 2};
	struct flow_headers headers = {};
	enum verdict verdict = parse_frame(skb, &headers);

	if (verdict != VERDICT_PASSED)
		return 1000 + verdict;
	verdict = lower_hops(skb, &headers);
	return verdict == VERDICT_PASSED ? set_macs(skb, to, from) : verdict;
}

/* Who answers the tuple in `wanted`, into `chosen`. */
SEC("tc")
int OF_FAMILY(choose)(struct __sk_buff *skb)
{
	const struct flow_tuple *found;
	struct backend backend = {}, *place;
	struct flow_tuple tuple;
	__u32 first = 0;
	int answer;

	found = bpf_map_lookup_elem(&wanted, &first);
	place = bpf_map_lookup_elem(&chosen, &first);
	if (!found || !place)
		return -1;
	tuple = *found;
	answer = find_backend(&tuple, &backend);
	*place = backend;
	return answer;
}

/* A first fragment is noted, a later one found: its tuple into `wanted`. */
SEC("tc")
int OF_FAMILY(fragment)(struct __sk_buff *skb)
{
	struct flow_headers headers = {};
	struct flow_tuple *place;
	__u32 first = 0;
	enum verdict verdict = parse_frame(skb, &headers);

	place = bpf_map_lookup_elem(&wanted, &first);
	if (verdict != VERDICT_PASSED || !place)
		return 1000 + verdict;
	if (headers.fragment == FRAGMENT_KIND_FIRST)
		return remember_fragment(&headers);
	if (headers.fragment != FRAGMENT_KIND_LATER)
		return 2000;
	verdict = recall_fragment(&headers);
	*place = headers.tuple;
	return verdict;
}

static __always_inline int is_end(const struct backend *end, const __u8 *address, __u16 port)
{
	return end->port == port && same_address(end->address, address);
}

static __always_inline void set_end(const struct backend *end, __u8 *address, __u16 *port)
{
	__builtin_memcpy(address, end->address, ADDRESS_BYTES);
	*port = end->port;
}

/* Translates without memory of flows, both directions: -1 if it isn't a packet for that. */
static __noinline int translate_of_family(struct __sk_buff *skb)
{
	struct flow_headers headers = {}, quoted = {};
	const struct service_rule *service;
	struct flow_tuple to;
	__u32 first = 0;

	service = bpf_map_lookup_elem(&OF_FAMILY(rules), &first);
	if (!service || parse_frame(skb, &headers) != VERDICT_PASSED)
		return -1;
	if (headers.is_error) {
		if (parse_headers(skb, headers.l4_offset + ICMP_HEADER, headers.end, &quoted) !=
		    VERDICT_PASSED)
			return -1;
		to = quoted.tuple;
		if (is_end(&service->back, to.destination, to.destination_port))
			set_end(&service->front, to.destination, &to.destination_port);
		else if (is_end(&service->front, to.source, to.source_port))
			set_end(&service->back, to.source, &to.source_port);
		else
			return -1;
		return rewrite_error(skb, &headers, &quoted, &to);
	}
	if (headers.fragment == FRAGMENT_KIND_FIRST && remember_fragment(&headers))
		return VERDICT_FRAGMENT;
	if (headers.fragment == FRAGMENT_KIND_LATER && recall_fragment(&headers) != VERDICT_PASSED)
		return VERDICT_FRAGMENT;
	to = headers.tuple;
	if (service->dead_port == to.destination_port && same_address(service->front.address, to.destination))
		return refuse_packet(skb, &headers, REFUSAL_PORT, 0) ? 1000 : VERDICT_NO_BACKEND;
	if (is_end(&service->front, to.destination, to.destination_port))
		set_end(&service->back, to.destination, &to.destination_port);
	else if (is_end(&service->back, to.source, to.source_port))
		set_end(&service->front, to.source, &to.source_port);
	else
		return -1;
	return rewrite_packet(skb, &headers, &to);
}
