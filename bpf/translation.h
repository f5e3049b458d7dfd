/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What a flow's record says that its packets become. For one family (see family.h). */
#include "consts.h"
#include "packet.h"
#include "track.h"

#if (FAMILY == 4 && !defined(TORTIE_TRANSLATION4_H)) || (FAMILY == 6 && !defined(TORTIE_TRANSLATION6_H))
#if FAMILY == 4
#define TORTIE_TRANSLATION4_H
#else
#define TORTIE_TRANSLATION6_H
#endif

#ifndef TORTIE_TRANSLATION_H
#define TORTIE_TRANSLATION_H

#define put_identifier OF_FAMILY(put_identifier)
#define plan_translation OF_FAMILY(plan_translation)

#endif

/*
 * From the ends of an ICMP flow, which are as in a key: the smaller address has the identifier, whoever sent
 * the packet. In a tuple it is the source port, and type and code are the destination's.
 */
static __always_inline void put_identifier(struct flow_tuple *to, __u16 type_and_code)
{
	if (compare_addresses(to->source, to->destination) > 0)
		to->source_port = to->destination_port;
	to->destination_port = type_and_code;
}

/*
 * From the record to packet->to and packet->translation: a packet with the tuple before translation gets the
 * other one, an answer the way back. An error is told as the sender of what it quotes knows that packet.
 */
static __always_inline void plan_translation(struct packet *packet, int is_error)
{
	const struct flow_record *record = &packet->record;
	__u8 protocol = record->key.protocol;
	__u32 end = opener_of(record->state);
	struct flow_end opener, other;

	packet->to = is_error ? packet->quoted.tuple : packet->headers.tuple;
	packet->judged = packet->to;
	if (!is_translated(record->state))
		return;
	ends_before(record, &opener, &other);
	if (packet->via_pointer) {
		if (is_error != !packet->from_opener)
			return;
		if (is_error)
			tuple_between(&record->key.end[!end], &record->key.end[end], protocol, &packet->to);
		else
			tuple_between(&record->key.end[end], &record->key.end[!end], protocol, &packet->to);
		if (is_icmp(protocol))
			put_identifier(&packet->to, packet->judged.destination_port);
		packet->judged = packet->to;
		/* Policy knows the opener by its own address. */
		__builtin_memcpy(packet->judged.source, opener.address, ADDRESS_BYTES);
		packet->judged.source_port = packet->headers.tuple.source_port;
	} else {
		if (is_error == !packet->from_opener)
			return;
		if (is_error)
			tuple_between(&opener, &other, protocol, &packet->to);
		else
			tuple_between(&other, &opener, protocol, &packet->to);
		if (is_icmp(protocol))
			put_identifier(&packet->to, packet->judged.destination_port);
	}
	packet->translation = is_error ? TRANSLATION_ERROR : TRANSLATION_PACKET;
}

#endif
