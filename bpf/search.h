/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * From a record and a flow's classes to a rule: docs/design/ebpf-policy.md. The same for both families.
 * Whatever isn't as it should be denies.
 */
#ifndef TORTIE_SEARCH_H
#define TORTIE_SEARCH_H

#include "classifier.h"

/* How a decision came about. */
enum decision_reason {
	/* A rule said so. */
	DECISION_REASON_RULE = 0,
	/* The unit has no record: there is none, or it could not be published. */
	DECISION_REASON_NO_UNIT = 1,
	/* No rule matched; a unit that is whole ends with one that does. */
	DECISION_REASON_NO_RULE = 2,
	/* A number points outside its table, or backwards. */
	DECISION_REASON_BROKEN = 3,
	/* What was looked up was being written each time that it was read. */
	DECISION_REASON_UNSTABLE = 4,
};

struct decision {
	/* Allow, deny or undecided. */
	enum rule_action action;
	enum decision_reason reason;
	/* Index into tortie_rules of what decided. */
	__u32 rule;
	/* Chunk of the unit in which the search ended. */
	__u32 chunk;
	/* How many log rules matched on the way, and the first of them (indexes into tortie_rules). */
	__u32 logs;
	__u32 logged[DECISION_LOGS];
	/* What the source is, if the unit asks for it; else zero. */
	struct address_info source;
	/* What the destination is: its next hop is of use to who forwards. */
	struct address_info destination;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, PORT_TABLE__COUNT);
	__type(key, __u32);
	__type(value, struct port_classes);
} tortie_ports SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 8192);
	__type(key, __u32);
	__type(value, __u32);
} tortie_units SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 16384);
	__type(key, __u32);
	__type(value, struct unit_record);
} tortie_records SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 524288);
	__type(key, struct row_key);
	__type(value, __u32);
} tortie_rows SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 262144);
	__type(key, __u32);
	__type(value, __u32);
} tortie_rowtab SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 65536);
	__type(key, __u32);
	__type(value, struct chunk);
} tortie_chunks SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 262144);
	__type(key, __u32);
	__type(value, __u32);
} tortie_rules SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 262144);
	__type(key, __u32);
	__type(value, struct rule_hits);
} tortie_hits SEC(".maps");

/*
 * No read before it is made after it, and the other way round. An atomic operation that returns a value is a
 * full barrier in BPF; a barrier by itself there is none. Processors that keep loads in order (x86) pay some
 * 5 ns for those that don't.
 */
static __always_inline void order_reads(void)
{
	__u32 word = 0;
	__u32 before = __sync_fetch_and_add(&word, 1);

	asm volatile("" : : "r"(before));
}

/* The class of an index in one of the port tables. Not inlined: a function's parameters are what puts enums
 * into BTF. */
static __noinline __u32 port_class(enum port_table table, __u16 index)
{
	const struct port_classes *classes = bpf_map_lookup_elem(&tortie_ports, &table);

	return classes ? classes->class[index] : 0;
}

static __always_inline int has_ports(__u8 protocol)
{
	return protocol == PROTOCOL_TCP || protocol == PROTOCOL_UDP || protocol == PROTOCOL_SCTP;
}

/*
 * An element of a hash that isn't preallocated is free as soon as it is replaced or deleted, without a grace
 * period, and the next write of that CPU takes it: a value that was found may be another key's before it is
 * read. It is this key's if the key still leads to it after it was read, and it says the same after that: an
 * element that went to another key and came back (which one lookup in millions meets when it is stopped
 * meanwhile) says something else. What isn't so is read again, so often; each time another thread must have
 * written this very key in some 20 ns.
 */
#define STABLE_READS 4

enum found {
	/* There is none. */
	FOUND_NONE,
	FOUND_VALUE,
	/* It was another each time. */
	FOUND_UNSTABLE,
};

/* A search through a unit's chunks. */
struct search {
	struct decision *decision;
	__u32 chunk;
	__u32 chunks;
	__u32 first_rule;
	__u32 mask;
	/* Where the chunks are that the class has not of its own. */
	__u32 other_row[DIMENSION__COUNT];
	/* Chunks of the class's own, and which of the unit's they are: see ROW_LENGTH_SHIFT. Length 0: none.
	 */
	__u32 row[DIMENSION__COUNT];
	__u32 window[DIMENSION__COUNT];
	/* Of the present step. Here since a frame of its own would cost more: see test-kernels.md. */
	__u32 ids[DIMENSION__COUNT];
	__u32 bytes;
};

/*
 * Which rules of the record the class may match: the default row, or its own, and the one that this says for
 * the chunks that it hasn't. Read without STABLE_READS: a key of a record that is looked at is written once
 * and deleted a grace period after the last look, as are the row, the chunks and the rule words that it leads
 * to, which no second look would protect. Nor is it missed: a walk through a bucket misses a key only while
 * that is replaced.
 */
static __always_inline void find_row(struct search *search, __u32 record, const struct unit_record *rules,
				     enum dimension dimension, __u32 class)
{
	struct row_key key = {.record = record, .dimension = dimension, .class = class};
	const __u32 *row = bpf_map_lookup_elem(&tortie_rows, &key);
	const __u32 *window, *other;
	__u32 index;

	search->other_row[dimension] = rules->default_row[dimension];
	if (!row)
		return;
	index = *row;
	window = bpf_map_lookup_elem(&tortie_rowtab, &index);
	index++;
	other = bpf_map_lookup_elem(&tortie_rowtab, &index);
	if (!window || !other) {
		/* Outside the table: so is all that it says. */
		search->row[dimension] = ROW_NONE;
		search->window[dimension] = UNIT_CHUNKS << ROW_LENGTH_SHIFT;
		return;
	}
	search->row[dimension] = index + 1;
	search->window[dimension] = *window;
	if (*other != ROW_DEFAULT)
		search->other_row[dimension] = *other;
}

/* The number of the lowest set bit, by the table of a de Bruijn sequence: no branches, which the verifier
 * would each follow. */
static const __u8 bit_of_product[64] = {
    0,	1,  2,	53, 3,	7,  54, 27, 4,	38, 41, 8,  34, 55, 48, 28, 62, 5,  39, 46, 44, 42,
    22, 9,  24, 35, 59, 56, 49, 18, 29, 11, 63, 52, 6,	26, 37, 40, 33, 47, 61, 45, 43, 21,
    23, 58, 17, 10, 51, 25, 36, 32, 60, 20, 57, 16, 50, 31, 19, 15, 30, 14, 13, 12,
};

static __always_inline __u32 lowest_bit(__u64 word)
{
	return bit_of_product[((word & -word) * 0x022fdd63cc95386dULL) >> 58];
}

/* The chunk of a row; all rules where the unit doesn't look at the dimension. 0: the row leaves its table. */
static __always_inline int chunk_of(const struct search *search, enum dimension dimension, __u32 *chunk)
{
	__u32 window = search->window[dimension];
	__u32 first = search->row[dimension];
	__u32 offset = search->chunk - (window & ROW_START_MASK);
	const __u32 *entry;
	__u32 index;

	*chunk = CHUNK_FULL;
	if (!(search->mask & 1U << dimension))
		return 1;
	if (offset >= window >> ROW_LENGTH_SHIFT) {
		first = search->other_row[dimension];
		offset = search->chunk;
	}
	index = first + offset;
	/* No number so large that the sum is another row's. */
	if (index < first)
		return 0;
	entry = bpf_map_lookup_elem(&tortie_rowtab, &index);
	if (!entry)
		return 0;
	*chunk = *entry;
	return 1;
}

/* Of a packet without bytes it is only asked what would become of it. */
static __always_inline void count_hit(__u32 rule, __u32 bytes)
{
	struct rule_hits *hits;

	if (!bytes)
		return;
	hits = bpf_map_lookup_elem(&tortie_hits, &rule);
	if (!hits)
		return;
	__sync_fetch_and_add(&hits->packets, 1);
	__sync_fetch_and_add(&hits->bytes, bytes);
}

/* Ends the search; the return value ends the loop. */
static __always_inline long conclude_search(struct search *search, enum rule_action action,
					    enum decision_reason reason, __u32 rule)
{
	search->decision->action = action;
	search->decision->reason = reason;
	search->decision->rule = rule;
	return 1;
}

/* The rule's word was matched: the end, or where to go on. */
static __always_inline long apply_rule(struct search *search, __u32 rule)
{
	const __u32 *word = bpf_map_lookup_elem(&tortie_rules, &rule);
	__u32 next;

	if (!word)
		return conclude_search(search, RULE_ACTION_DENY, DECISION_REASON_BROKEN, rule);
	count_hit(rule, search->bytes);
	switch ((__u8)*word) {
	case RULE_ACTION_ALLOW:
		return conclude_search(search, RULE_ACTION_ALLOW, DECISION_REASON_RULE, rule);
	case RULE_ACTION_DENY:
		return conclude_search(search, RULE_ACTION_DENY, DECISION_REASON_RULE, rule);
	case RULE_ACTION_UNDECIDED:
		return conclude_search(search, RULE_ACTION_UNDECIDED, DECISION_REASON_RULE, rule);
	case RULE_ACTION_LOG: {
		__u32 slot = search->decision->logs++;

		if (slot < DECISION_LOGS)
			search->decision->logged[slot] = rule;
		search->chunk += 1;
		return 0;
	}
	case RULE_ACTION_PASS:
		next = *word >> 8;
		/* Never backwards: a search is bounded by its unit's chunks. */
		if (next <= search->chunk)
			return conclude_search(search, RULE_ACTION_DENY, DECISION_REASON_BROKEN, rule);
		search->chunk = next;
		return 0;
	default:
		return conclude_search(search, RULE_ACTION_DENY, DECISION_REASON_BROKEN, rule);
	}
}

/* One step of a search: the first rule of the chunk that all dimensions agree on. */
static long search_chunk(__u32 step, struct search *search)
{
	const struct chunk *source, *destination, *service, *source_port;
	__u32 *ids = search->ids;
	__u32 first;

	search->decision->chunk = search->chunk;
	if (search->chunk >= search->chunks)
		return 1;
	if (!chunk_of(search, DIMENSION_SOURCE, &ids[DIMENSION_SOURCE]) ||
	    !chunk_of(search, DIMENSION_DESTINATION, &ids[DIMENSION_DESTINATION]) ||
	    !chunk_of(search, DIMENSION_SERVICE, &ids[DIMENSION_SERVICE]) ||
	    !chunk_of(search, DIMENSION_SOURCE_PORT, &ids[DIMENSION_SOURCE_PORT]))
		return conclude_search(search, RULE_ACTION_DENY, DECISION_REASON_BROKEN, RULE_INDEX_NONE);
	if (ids[DIMENSION_SOURCE] == CHUNK_EMPTY || ids[DIMENSION_DESTINATION] == CHUNK_EMPTY ||
	    ids[DIMENSION_SERVICE] == CHUNK_EMPTY || ids[DIMENSION_SOURCE_PORT] == CHUNK_EMPTY) {
		search->chunk += 1;
		return 0;
	}
	source = bpf_map_lookup_elem(&tortie_chunks, &ids[DIMENSION_SOURCE]);
	destination = bpf_map_lookup_elem(&tortie_chunks, &ids[DIMENSION_DESTINATION]);
	service = bpf_map_lookup_elem(&tortie_chunks, &ids[DIMENSION_SERVICE]);
	source_port = bpf_map_lookup_elem(&tortie_chunks, &ids[DIMENSION_SOURCE_PORT]);
	if (!source || !destination || !service || !source_port)
		return conclude_search(search, RULE_ACTION_DENY, DECISION_REASON_BROKEN, RULE_INDEX_NONE);
	first = search->first_rule + search->chunk * CHUNK_RULES;
#pragma unroll
	for (int i = 0; i < CHUNK_WORDS; i++) {
		__u64 word =
		    source->words[i] & destination->words[i] & service->words[i] & source_port->words[i];

		if (word)
			return apply_rule(search, first + i * 64 + lowest_bit(word));
	}
	search->chunk += 1;
	return 0;
}

#endif
