/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The sweep of one family's hashes (see family.h): sweep.bpf.c includes it for each.
 *
 * An element may become another flow's at any time: what was read of it holds only if its state is the same
 *after, and the state is only changed by compare-and-swap, with the cookie in it.
 */
#include "sweep-context.h"
#include "flow-maps.h"
#include "flow-shard.h"
#include "one-way.h"
#include "family.h"

#ifndef TORTIE_SWEEP_H
#define TORTIE_SWEEP_H

#define SWEEP_FLOW_MAP(letter) SWEEP_CONCAT(OF_FAMILY(tortie_flow), letter)
#define SWEEP_CONCAT(name, letter) SWEEP_CONCAT_TEXT(name, letter)
#define SWEEP_CONCAT_TEXT(name, letter) name##letter
#define flow_record_exists OF_FAMILY(flow_record_exists)
#define flow_pointed_key OF_FAMILY(flow_pointed_key)
#define sweep_one OF_FAMILY(sweep_one)
#define begin_round OF_FAMILY(begin_round)
#define begin_round_of OF_FAMILY(begin_round_of)
#define end_round OF_FAMILY(end_round)
#define end_round_of OF_FAMILY(end_round_of)
#define sweep_shard OF_FAMILY(sweep_shard)

/* What a test puts between the last look at an element and its deletion. */
#ifndef SWEEP_PAUSE
#define SWEEP_PAUSE(map, record)
#endif

/* The kernel's, of which callbacks only hand on the address. */
struct bpf_map;

static __always_inline __u64 timeout_of(const struct sweep_timeouts *timeouts, __u8 protocol, __u64 state)
{
	const __u64 fins = FLOW_FLAG_FIN_OPENER | FLOW_FLAG_FIN_OTHER;

	switch (protocol) {
	case PROTOCOL_TCP:
		if (state & (FLOW_FLAG_RESET_OPENER | FLOW_FLAG_RESET_OTHER))
			return timeouts->tcp_reset_seen;
		if ((state & fins) == fins)
			return timeouts->tcp_fins_seen;
		return state & FLOW_FLAG_ESTABLISHED ? timeouts->tcp_established : timeouts->tcp_syn_sent;
	case PROTOCOL_UDP:
		/* Netfilter must not remember a flow longer that it may translate: a datagram of the pod's
		 * would begin another one, past netfilter. Its time for a stream is 120 s. */
		return state & FLOW_FLAG_VIA_STACK ? 3 * timeouts->udp : timeouts->udp;
	case PROTOCOL_ICMP:
	case PROTOCOL_ICMPV6:
		return timeouts->icmp;
	default:
		return timeouts->generic;
	}
}

/* The clock of programs is coarse, and packets come while we sweep: a time in the future is now. */
static __always_inline int is_older(__u64 now, __u64 then, __u64 age)
{
	return now > then && now - then > age;
}

static __always_inline void count_deleted(struct sweep_counts *counts, __u8 protocol)
{
	switch (protocol) {
	case PROTOCOL_TCP:
		counts->deleted_tcp++;
		break;
	case PROTOCOL_UDP:
		counts->deleted_udp++;
		break;
	case PROTOCOL_ICMP:
	case PROTOCOL_ICMPV6:
		counts->deleted_icmp++;
		break;
	default:
		counts->deleted_other++;
	}
}

/*
 * Whether another round looks at the pointer. One without its record is in nobody's way, since who meets it
 * deletes it: so it may stay for some rounds, and most of them are spared a look for their records, which
 * costs several times what a record's own does. What is marked is looked at in the next round, whose it may
 * be.
 */
static __always_inline int is_others_part(const struct sweep_context *sweep, __u64 state)
{
	return !(state & FLOW_FLAG_MARKED) && (state >> 33 ^ sweep->round) & (SWEEP_POINTER_PARTS - 1);
}

/* Keeps a call apart from its like: kernel 6.1 knows one map for each call of bpf_for_each_map_elem, and
 * clang makes one call of several. Each has another operator that changes nothing. */
#define own_call(result, operator) asm volatile("%0 " operator" 0" : "+r"(result))

/* No read before it is made after it: an atomic operation that returns a value is a full barrier in BPF. */
static __always_inline void sweep_order_reads(void)
{
	__u32 word = 0;
	__u32 before = __sync_fetch_and_add(&word, 1);

	asm volatile("" : : "r"(before));
}

#endif

static __always_inline int flow_record_exists(const struct flow_key *key, __u64 cookie)
{
	struct flow_record *record = NULL;
	__u64 state;

	switch (flow_shard(key)) {
	case 0:
		record = bpf_map_lookup_elem(&SWEEP_FLOW_MAP(a), key);
		break;
	case 1:
		record = bpf_map_lookup_elem(&SWEEP_FLOW_MAP(b), key);
		break;
	case 2:
		record = bpf_map_lookup_elem(&SWEEP_FLOW_MAP(c), key);
		break;
	case 3:
		record = bpf_map_lookup_elem(&SWEEP_FLOW_MAP(d), key);
		break;
	}
	if (!record)
		return 0;
	state = *(volatile __u64 *)&record->state;
	return state >> 32 == cookie && !(state & FLOW_FLAG_POINTER);
}

/* The record's key that a pointer says: its ends, which aren't sorted there. */
static __always_inline void flow_pointed_key(const struct flow_record *pointer, struct flow_key *key)
{
	int order = 0;

	for (unsigned int i = 0; i < ADDRESS_BYTES && order == 0; i++)
		order = (int)pointer->before.address[i] - (int)pointer->source_before.address[i];
	if (order == 0)
		order = (int)pointer->before.port - (int)pointer->source_before.port;
	key->end[0] = order <= 0 ? pointer->before : pointer->source_before;
	key->end[1] = order <= 0 ? pointer->source_before : pointer->before;
	key->protocol = pointer->key.protocol;
}

static long sweep_one(struct bpf_map *map, struct flow_key *key, struct flow_record *record,
		      struct sweep_context *sweep)
{
	const __u64 kinds = FLOW_FLAG_POINTER | FLOW_FLAG_ONE_WAY | FLOW_FLAG_ANSWERED;
	struct flow_key target = {};
	__u64 state = *(volatile __u64 *)&record->state;
	__u64 marked = state | FLOW_FLAG_MARKED;
	__u64 last_seen, created;
	__u8 protocol;
	int is_over;

	sweep->counts.visited++;
	if (state & FLOW_FLAG_POINTER) {
		sweep->counts.pointers++;
		if (is_others_part(sweep, state))
			return 0;
		flow_pointed_key(record, &target);
	}
	last_seen = *(volatile __u64 *)&record->last_seen;
	created = *(volatile __u64 *)&record->created;
	protocol = *(volatile __u8 *)&record->key.protocol;
	sweep_order_reads();
	if (*(volatile __u64 *)&record->state != state)
		return 0;
	if (state & FLOW_FLAG_POINTER)
		is_over = !flow_record_exists(&target, state >> 32);
	else
		is_over = is_older(sweep->now, created, sweep->timeouts.creation) &&
			  is_older(sweep->now, last_seen, timeout_of(&sweep->timeouts, protocol, state));
	if ((state & kinds) == FLOW_FLAG_ONE_WAY)
		add_one_way(record, state, 0);
	if (!is_over) {
		/* A pointer's mark is taken off by nobody else. */
		if (state == marked)
			__sync_val_compare_and_swap(&record->state, state, state & ~(__u64)FLOW_FLAG_MARKED);
		return 0;
	}
	if (state != marked) {
		if (__sync_val_compare_and_swap(&record->state, state, marked) == state)
			sweep->counts.marked++;
		return 0;
	}
	/* By a copy: the element, and with it the key, may become another flow's under the kernel's hands.
	 * The copy is this flow's if the state still is. */
	target = record->key;
	sweep_order_reads();
	if (*(volatile __u64 *)&record->state != state)
		return 0;
	SWEEP_PAUSE(map, record);
	if (bpf_map_delete_elem(map, &target))
		return 0;
	if (state & FLOW_FLAG_POINTER)
		sweep->counts.deleted_pointers++;
	else
		count_deleted(&sweep->counts, protocol);
	return 0;
}

/* One-way flows are counted from the first hash to the last. */
static long begin_round_of(struct bpf_map *map, __u32 *index, struct one_way_share *share,
			   struct sweep_context *sweep)
{
	share->next = 0;
	return 0;
}

static long end_round_of(struct bpf_map *map, __u32 *index, struct one_way_share *share,
			 struct sweep_context *sweep)
{
	share->now = share->next;
	return 0;
}

static __always_inline void begin_round(struct sweep_context *sweep)
{
	long visited = bpf_for_each_map_elem(&OF_FAMILY(tortie_oneway), begin_round_of, sweep, 0);

	own_call(visited, "<<=");
}

static __always_inline void end_round(struct sweep_context *sweep)
{
	long visited = bpf_for_each_map_elem(&OF_FAMILY(tortie_oneway), end_round_of, sweep, 0);

	own_call(visited, ">>=");
}

static __always_inline long sweep_shard(__u32 shard, struct sweep_context *sweep)
{
	long visited = -1;

	if (shard == 0)
		begin_round(sweep);
	switch (shard) {
	case 0:
		visited = bpf_for_each_map_elem(&SWEEP_FLOW_MAP(a), sweep_one, sweep, 0);
		own_call(visited, "+=");
		break;
	case 1:
		visited = bpf_for_each_map_elem(&SWEEP_FLOW_MAP(b), sweep_one, sweep, 0);
		own_call(visited, "-=");
		break;
	case 2:
		visited = bpf_for_each_map_elem(&SWEEP_FLOW_MAP(c), sweep_one, sweep, 0);
		own_call(visited, "|=");
		break;
	case 3:
		visited = bpf_for_each_map_elem(&SWEEP_FLOW_MAP(d), sweep_one, sweep, 0);
		own_call(visited, "^=");
		break;
	}
	if (shard == FLOW_SHARDS - 1)
		end_round(sweep);
	return visited;
}
