/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Records of flows: made, promoted, forgotten. Each is a function of its own, which the verifier goes through
 * once; all work on this_packet(). For one family (see family.h).
 */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include "consts.h"
#include "packet.h"
#include "flow.h"
#include "flow-elements.h"
#include "one-way.h"

#if (FAMILY == 4 && !defined(TORTIE_MAKE_FLOW4_H)) || (FAMILY == 6 && !defined(TORTIE_MAKE_FLOW6_H))
#if FAMILY == 4
#define TORTIE_MAKE_FLOW4_H
#else
#define TORTIE_MAKE_FLOW6_H
#endif

#ifndef TORTIE_MAKE_FLOW_H
#define TORTIE_MAKE_FLOW_H

#define ends_before OF_FAMILY(ends_before)
#define point_to OF_FAMILY(point_to)
#define promote_flow OF_FAMILY(promote_flow)
#define forget_flow OF_FAMILY(forget_flow)
#define insert_flow OF_FAMILY(insert_flow)
#define insert_pointer OF_FAMILY(insert_pointer)
#define own_source OF_FAMILY(own_source)
#define insert_as OF_FAMILY(insert_as)
#define begin_record OF_FAMILY(begin_record)
#define lead_to_record OF_FAMILY(lead_to_record)
#define make_flow OF_FAMILY(make_flow)

#define EEXIST 17
/* How often another source port is tried where one is taken. */
#define PORT_TRIES 8

/* What became of a record that was to be made or promoted. */
enum flow_made {
	FLOW_MADE_OK = 0,
	/* Another CPU was first: find_flow finds its. */
	FLOW_MADE_LATE = 1,
	/* There is no room, or no free port. */
	FLOW_MADE_FULL = 2,
};

#endif

/* The opener's end and the other one before translation. */
static __always_inline void ends_before(const struct flow_record *record, struct flow_end *opener,
					struct flow_end *other)
{
	__u32 end = opener_of(record->state);

	*opener = record->state & FLOW_FLAG_SOURCE ? record->source_before : record->key.end[end];
	*other = record->state & FLOW_FLAG_DESTINATION ? record->before : record->key.end[!end];
}

/* Writes into `pointer` what leads to the record from its tuple before translation. */
static __always_inline void point_to(const struct flow_record *record, struct flow_record *pointer)
{
	__u32 end = opener_of(record->state);
	struct flow_end opener, other;

	ends_before(record, &opener, &other);
	__builtin_memset(pointer, 0, sizeof(*pointer));
	key_of_ends(&opener, &other, record->key.protocol, &pointer->key);
	pointer->before = record->key.end[!end];
	pointer->source_before = record->key.end[end];
	pointer->created = pointer->last_seen = record->created;
	pointer->state = (record->state >> 32 << 32) | FLOW_FLAG_POINTER;
	if (compare_ends(&opener, &other) > 0)
		pointer->state |= FLOW_FLAG_OPENER_1;
}

/*
 * Moves packet->record, which is in the LRU, to the answered ones, where it has the flags that the packet
 * adds. Record first, then the pointer: whoever finds the pointer finds the record. Returns enum flow_made.
 */
__noinline int promote_flow(void)
{
	struct packet *packet = this_packet();
	struct flow_record *record, *element;
	const struct flow_record *before;
	long error;

	if (!packet)
		return FLOW_MADE_FULL;
	record = &packet->record;
	if (!packet->from_opener)
		record->state |= FLOW_FLAG_ANSWERED;
	else if (!(record->state & FLOW_FLAG_ANSWERED))
		record->state |= FLOW_FLAG_ONE_WAY;
	record->last_seen = bpf_ktime_get_coarse_ns();
	before = bpf_map_lookup_elem(&OF_FAMILY(tortie_new), &record->key);
	if (before) {
		record->packets[0] = before->packets[0];
		record->packets[1] = before->packets[1];
		record->bytes[0] = before->bytes[0];
		record->bytes[1] = before->bytes[1];
	}
	error = add_answered(record);
	if (error)
		return error == -EEXIST ? FLOW_MADE_LATE : FLOW_MADE_FULL;
	if (is_translated(record->state)) {
		point_to(record, &packet->fresh);
		error = add_answered(&packet->fresh);
		if (error && error != -EEXIST) {
			delete_answered(&record->key);
			return FLOW_MADE_FULL;
		}
		bpf_map_delete_elem(&OF_FAMILY(tortie_new), &packet->fresh.key);
	}
	if (record->state & FLOW_FLAG_ONE_WAY)
		add_one_way(record, record->state, 1);
	/* What another CPU noted there meanwhile. */
	before = bpf_map_lookup_elem(&OF_FAMILY(tortie_new), &record->key);
	if (before) {
		__u64 state = *(const volatile __u64 *)&before->state;

		element = answered_element(&record->key);
		if (element && state >> 32 == record->state >> 32 && state & ~record->state & 0xffffffff)
			change_state(&element->state, record->state, state & 0xffffffff, 0);
	}
	bpf_map_delete_elem(&OF_FAMILY(tortie_new), &record->key);
	return FLOW_MADE_OK;
}

/* Takes packet->record out, and what leads to it. */
__noinline int forget_flow(void)
{
	struct packet *packet = this_packet();

	if (!packet)
		return 0;
	if (is_translated(packet->record.state)) {
		point_to(&packet->record, &packet->fresh);
		delete_element(&packet->fresh.key);
	}
	delete_element(&packet->record.key);
	return 0;
}

/* Puts packet->record among the new ones, unless its key is one of the answered: 0, or the error. */
__noinline int insert_flow(void)
{
	struct packet *packet = this_packet();

	if (!packet)
		return -1;
	if (answered_element(&packet->record.key))
		return -EEXIST;
	return bpf_map_update_elem(&OF_FAMILY(tortie_new), &packet->record.key, &packet->record, BPF_NOEXIST);
}

/* The same for packet->fresh. */
__noinline int insert_pointer(void)
{
	struct packet *packet = this_packet();

	if (!packet)
		return -1;
	if (answered_element(&packet->fresh.key))
		return -EEXIST;
	return bpf_map_update_elem(&OF_FAMILY(tortie_new), &packet->fresh.key, &packet->fresh, BPF_NOEXIST);
}

/* Notes whose the source was. */
static __always_inline void own_source(const struct packet *packet, struct flow_record *record)
{
	__builtin_memcpy(record->source_before.address, packet->headers.tuple.source, ADDRESS_BYTES);
	record->source_before.port = packet->headers.tuple.source_port;
}

/* Puts packet->record there under the key of packet->to. */
__noinline int insert_as(void)
{
	struct packet *packet = this_packet();
	struct flow_record *record;

	if (!packet)
		return -1;
	record = &packet->record;
	record->state &= ~(__u64)FLOW_FLAG_OPENER_1;
	if (key_of_tuple(&packet->to, &record->key))
		record->state |= FLOW_FLAG_OPENER_1;
	return insert_flow();
}

/* Fills packet->record, but for its key, for a flow that this packet opens. */
static __always_inline void begin_record(struct packet *packet, __u32 flags)
{
	struct flow_record *record = &packet->record;

	__builtin_memset(record, 0, sizeof(*record));
	if (flags & FLOW_FLAG_DESTINATION) {
		__builtin_memcpy(record->before.address, packet->headers.tuple.destination, ADDRESS_BYTES);
		record->before.port = packet->headers.tuple.destination_port;
	}
	if (flags & FLOW_FLAG_SOURCE)
		own_source(packet, record);
	record->created = record->last_seen = bpf_ktime_get_coarse_ns();
	record->packets[0] = 1;
	record->bytes[0] = packet->length;
	record->state = new_cookie() << 32 | flags;
}

/* Puts the pointer there that leads to packet->record, which is there. Returns enum flow_made. */
__noinline int lead_to_record(void)
{
	struct packet *packet = this_packet();
	int error;

	if (!packet)
		return FLOW_MADE_FULL;
	point_to(&packet->record, &packet->fresh);
	error = insert_pointer();
	if (!error)
		return FLOW_MADE_OK;
	bpf_map_delete_elem(&OF_FAMILY(tortie_new), &packet->record.key);
	return error == -EEXIST ? FLOW_MADE_LATE : FLOW_MADE_FULL;
}

/*
 * Makes a record for a flow that this packet opens, which goes on as packet->to, with these flags. If a
 * translated one's tuple is taken, it gets another source port, and so does packet->to. Returns enum
 * flow_made.
 */
__noinline int make_flow(__u32 flags)
{
	struct packet *packet = this_packet();
	struct flow_record *record;
	int error;

	if (!packet)
		return FLOW_MADE_FULL;
	record = &packet->record;
	begin_record(packet, flags);
	error = insert_as();
	if (!is_translated(flags))
		return !error ? FLOW_MADE_OK : error == -EEXIST ? FLOW_MADE_LATE : FLOW_MADE_FULL;
	for (int i = 0; i < PORT_TRIES && error == -EEXIST; i++) {
		/* Of those that nobody listens on by default (RFC 6335: dynamic ports). */
		if (packet->to.protocol == PROTOCOL_SCTP)
			return FLOW_MADE_FULL;
		packet->to.source_port = 0xc000 | (bpf_get_prandom_u32() & 0x3fff);
		own_source(packet, record);
		record->state |= FLOW_FLAG_SOURCE;
		error = insert_as();
	}
	return error ? FLOW_MADE_FULL : lead_to_record();
}

#endif
