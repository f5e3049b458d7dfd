/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Finds the record of a packet's flow, and notes the packet in it. Each is a function of its own, which the
 * verifier goes through once; all work on this_packet(). For one family (see family.h).
 */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include "consts.h"
#include "packet.h"
#include "flow.h"
#include "flow-elements.h"
#include "legs.h"
#include "make-flow.h"
#include "one-way.h"

#if (FAMILY == 4 && !defined(TORTIE_TRACK4_H)) || (FAMILY == 6 && !defined(TORTIE_TRACK6_H))
#if FAMILY == 4
#define TORTIE_TRACK4_H
#else
#define TORTIE_TRACK6_H
#endif

#ifndef TORTIE_TRACK_H
#define TORTIE_TRACK_H

#define touch_flow OF_FAMILY(touch_flow)
#define may_be_one_way OF_FAMILY(may_be_one_way)
#define is_worth_a_place OF_FAMILY(is_worth_a_place)
#define use_element OF_FAMILY(use_element)
#define is_given_up OF_FAMILY(is_given_up)
#define look_up_flow OF_FAMILY(look_up_flow)
#define find_flow OF_FAMILY(find_flow)

/* What a test puts between a pointer and the look for its record. */
#ifndef POINTER_PAUSE
#define POINTER_PAUSE(key)
#endif

/* What find_flow found. */
enum flow_use {
	FLOW_USE_NONE = 0,
	/* The packet is one of the flow, and that is noted. */
	FLOW_USE_OK = 1,
	/* A flow, but policy must be asked about this packet: a leg is missing, or it is a SYN. */
	FLOW_USE_JUDGE = 2,
	/* A SYN, and the flow is over. */
	FLOW_USE_CLOSED = 3,
	/* It is answered: promote_flow, and find it again. */
	FLOW_USE_PROMOTE = 4,
	FLOW_USE_POINTER = 5,
};

#endif

/* Notes the packet in its flow's record. */
static __always_inline void touch_flow(const struct packet *packet, struct flow_record *element, __u64 state)
{
	const struct flow_headers *headers = &packet->headers;
	__u64 now = bpf_ktime_get_coarse_ns();

	change_state(&element->state, state,
		     packet->legs | flags_of_packet(state, packet->from_opener, headers->tuple.protocol,
						    headers->tcp_flags),
		     flags_taken_off(packet->from_opener, headers->tuple.protocol, headers->tcp_flags));
	/* Of the coarse clock there are many packets at a time. */
	if (element->last_seen != now)
		element->last_seen = now;
	if (!is_counted(packet, state))
		return;
	if (packet->from_opener) {
		element->packets[0] += 1;
		element->bytes[0] += packet->length;
	} else {
		element->packets[1] += 1;
		element->bytes[1] += packet->length;
	}
}

/* Whether there is a place for packet->record among the answered, although nobody has answered. */
__noinline int may_be_one_way(void)
{
	struct packet *packet = this_packet();

	return packet && one_way_has_place(ONE_WAY_TOTAL) &&
	       one_way_has_place(one_way_owner(&packet->record, packet->record.state));
}

/*
 * Whether the packet of a new flow, which may pass, is what makes it one of the answered. Of TCP that isn't
 * translated it is what the opener says to the answer: a flood of SYNs with made-up sources, which are all
 * answered, takes no place. Nor does who is refused by a RST, or refuses so. A translated flow's answers are
 * known by its pointer only, which must not be evicted.
 */
static __always_inline int is_worth_a_place(const struct packet *packet, __u64 state)
{
	const struct flow_headers *headers = &packet->headers;

	if (headers->tuple.protocol != PROTOCOL_TCP)
		return !packet->from_opener;
	if (headers->tcp_flags & TCP_RST)
		return 0;
	if (is_translated(state))
		return !packet->from_opener;
	return packet->from_opener && state & FLOW_FLAG_ANSWERED && !(state & FLOW_FLAG_RESET_OTHER);
}

/* What the element means to the packet. FLOW_USE_NONE also if it isn't this key's any more. */
static __always_inline enum flow_use use_element(struct packet *packet, struct flow_record *element,
						 int is_new)
{
	const struct flow_headers *headers = &packet->headers;
	__u64 state;

	if (!read_flow(element, &packet->key, &packet->record))
		return FLOW_USE_NONE;
	state = packet->record.state;
	if (packet->cookie) {
		if (state >> 32 != packet->cookie || state & FLOW_FLAG_POINTER)
			return FLOW_USE_NONE;
	} else {
		packet->from_opener = packet->sender == opener_of(state);
		if (state & FLOW_FLAG_POINTER)
			return FLOW_USE_POINTER;
	}
	if (packet->task == FLOW_TASK_LOOK)
		return FLOW_USE_OK;
	/* Another flow has the tuple meanwhile, which nobody has judged. */
	if (packet->task == FLOW_TASK_ALLOW && state >> 32 != packet->allowed)
		return FLOW_USE_NONE;
	/* What an uplink's program leaves to others it only looks at: it may be from who pretends. */
	if (packet->place == PLACE_NET_IN && !is_net_flow(packet, state))
		return FLOW_USE_OK;
	if (packet->task == FLOW_TASK_USE) {
		if (is_syn(headers->tuple.protocol, headers->tcp_flags))
			return is_closed(state) ? FLOW_USE_CLOSED : FLOW_USE_JUDGE;
		if (!may_pass(packet, state))
			return FLOW_USE_JUDGE;
		/* What comes to a host endpoint's program may be from who pretends, and what is a pod's comes
		 * to the pod's own program, too. */
		if (packet->place >= PLACE_HOST_IN && state & FLOW_LEGS_OF_PODS)
			return FLOW_USE_OK;
		if (is_new && is_worth_a_place(packet, state))
			return FLOW_USE_PROMOTE;
		if (is_new && headers->tuple.protocol == PROTOCOL_UDP &&
		    bpf_ktime_get_coarse_ns() > packet->record.created + ONE_WAY_AFTER_NS && may_be_one_way())
			return FLOW_USE_PROMOTE;
	}
	touch_flow(packet, element, state);
	return FLOW_USE_OK;
}

/*
 * Whether an element of the new flows' is a handshake that nobody goes on with. What was allowed then is too
 * long ago, and no sweep comes here.
 */
static __always_inline int is_given_up(const struct flow_record *element)
{
	const __u64 others = FLOW_FLAG_POINTER | FLOW_FLAG_DESTINATION | FLOW_FLAG_SOURCE;

	return element->key.protocol == PROTOCOL_TCP &&
	       !(*(const volatile __u64 *)&element->state & others) &&
	       *(const volatile __u64 *)&element->last_seen + HANDSHAKE_SECONDS * 1000000000ULL <
		   bpf_ktime_get_coarse_ns();
}

/*
 * Looks up packet->key. Answered flows first; a flow that is promoted between both lookups is found by the
 * third.
 */
__noinline int look_up_flow(void)
{
	struct packet *packet = this_packet();
	struct flow_record *element;
	enum flow_use use;

	if (!packet)
		return FLOW_USE_NONE;
	element = answered_element(&packet->key);
	if (element) {
		use = use_element(packet, element, 0);
		if (use != FLOW_USE_NONE)
			return use;
	}
	element = bpf_map_lookup_elem(&OF_FAMILY(tortie_new), &packet->key);
	if (element && is_given_up(element)) {
		bpf_map_delete_elem(&OF_FAMILY(tortie_new), &packet->key);
	} else if (element) {
		use = use_element(packet, element, 1);
		if (use != FLOW_USE_NONE)
			return use;
	}
	element = answered_element(&packet->key);
	return element ? use_element(packet, element, 0) : FLOW_USE_NONE;
}

/*
 * Finds the flow of the packet (task LOOK: of what an ICMP error quotes), through a pointer if need be, and
 * notes the packet in it if that may be. packet->record is a copy of the record then. Task ALLOW: only if it
 * is the one that packet->record was a copy of.
 */
__noinline int find_flow(void)
{
	struct packet *packet = this_packet();
	struct flow_key *asked;
	int use;

	if (!packet)
		return FLOW_USE_NONE;
	packet->cookie = 0;
	packet->allowed = packet->record.state >> 32;
	packet->via_pointer = 0;
	packet->sender = key_of_tuple(
	    packet->task == FLOW_TASK_LOOK ? &packet->quoted.tuple : &packet->headers.tuple, &packet->key);
	use = look_up_flow();
	if (use != FLOW_USE_POINTER)
		return use;
	asked = &packet->fresh.key;
	*asked = packet->key;
	packet->via_pointer = 1;
	packet->cookie = packet->record.state >> 32;
	key_of_ends(&packet->record.before, &packet->record.source_before, asked->protocol, &packet->key);
	POINTER_PAUSE(asked);
	use = look_up_flow();
	/* It leads nowhere, and would be in the way of another. */
	if (use == FLOW_USE_NONE && packet->task != FLOW_TASK_ALLOW)
		delete_pointer(asked, packet->cookie);
	return use;
}

#endif
