/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Connection tracking: finds the record of a packet's flow, makes it, promotes it, forgets it. Each is a
 * function of its own, which the verifier goes through once; all work on this_packet(). For one family (see
 * family.h).
 */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include "consts.h"
#include "packet.h"
#include "flow.h"
#include "one-way.h"

#if (FAMILY == 4 && !defined(TORTIE_TRACK4_H)) || (FAMILY == 6 && !defined(TORTIE_TRACK6_H))
#if FAMILY == 4
#define TORTIE_TRACK4_H
#else
#define TORTIE_TRACK6_H
#endif

#ifndef TORTIE_TRACK_H
#define TORTIE_TRACK_H

#define FLOW_MAP(letter) FLOW_MAP_OF(OF_FAMILY(tortie_flow), letter)
#define FLOW_MAP_OF(name, letter) FLOW_MAP_NAME(name, letter)
#define FLOW_MAP_NAME(name, letter) name##letter
#define answered_element OF_FAMILY(answered_element)
#define has_element OF_FAMILY(has_element)
#define add_answered OF_FAMILY(add_answered)
#define delete_answered OF_FAMILY(delete_answered)
#define delete_element OF_FAMILY(delete_element)
#define delete_pointer OF_FAMILY(delete_pointer)
#define legs_needed OF_FAMILY(legs_needed)
#define host_legs OF_FAMILY(host_legs)
#define may_pass OF_FAMILY(may_pass)
#define is_own_service OF_FAMILY(is_own_service)
#define is_net_flow OF_FAMILY(is_net_flow)
#define is_counted OF_FAMILY(is_counted)
#define touch_flow OF_FAMILY(touch_flow)
#define may_be_one_way OF_FAMILY(may_be_one_way)
#define is_worth_a_place OF_FAMILY(is_worth_a_place)
#define use_element OF_FAMILY(use_element)
#define look_up_flow OF_FAMILY(look_up_flow)
#define find_flow OF_FAMILY(find_flow)
#define ends_before OF_FAMILY(ends_before)
#define point_to OF_FAMILY(point_to)
#define promote_flow OF_FAMILY(promote_flow)
#define forget_flow OF_FAMILY(forget_flow)
#define insert_flow OF_FAMILY(insert_flow)
#define insert_pointer OF_FAMILY(insert_pointer)
#define insert_as OF_FAMILY(insert_as)
#define own_source OF_FAMILY(own_source)
#define begin_record OF_FAMILY(begin_record)
#define lead_to_record OF_FAMILY(lead_to_record)
#define make_flow OF_FAMILY(make_flow)

#define EEXIST 17
/* Of a flow that programs at pods' devices, or for pods, have let through. */
#define FLOW_LEGS_OF_PODS (FLOW_FLAG_EGRESS_OK | FLOW_FLAG_INGRESS_OK)
/* How often another source port is tried where one is taken. */
#define PORT_TRIES 8

static __always_inline int is_translated(__u64 state)
{
	return (state & (FLOW_FLAG_DESTINATION | FLOW_FLAG_SOURCE)) != 0;
}

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

/* What became of a record that was to be made or promoted. */
enum flow_made {
	FLOW_MADE_OK = 0,
	/* Another CPU was first: find_flow finds its. */
	FLOW_MADE_LATE = 1,
	/* There is no room, or no free port. */
	FLOW_MADE_FULL = 2,
};

#endif

static __always_inline struct flow_record *answered_element(const struct flow_key *key)
{
	switch (flow_shard(key)) {
	case 0:
		return bpf_map_lookup_elem(&FLOW_MAP(a), key);
	case 1:
		return bpf_map_lookup_elem(&FLOW_MAP(b), key);
	case 2:
		return bpf_map_lookup_elem(&FLOW_MAP(c), key);
	default:
		return bpf_map_lookup_elem(&FLOW_MAP(d), key);
	}
}

/* Whether there is a record or a pointer of this key, answered or not. */
static __always_inline int has_element(const struct flow_key *key)
{
	return answered_element(key) || bpf_map_lookup_elem(&OF_FAMILY(tortie_new), key);
}

/* BPF_NOEXIST. */
static __always_inline long add_answered(const struct flow_record *element)
{
	switch (flow_shard(&element->key)) {
	case 0:
		return bpf_map_update_elem(&FLOW_MAP(a), &element->key, element, BPF_NOEXIST);
	case 1:
		return bpf_map_update_elem(&FLOW_MAP(b), &element->key, element, BPF_NOEXIST);
	case 2:
		return bpf_map_update_elem(&FLOW_MAP(c), &element->key, element, BPF_NOEXIST);
	default:
		return bpf_map_update_elem(&FLOW_MAP(d), &element->key, element, BPF_NOEXIST);
	}
}

static __always_inline void delete_answered(const struct flow_key *key)
{
	switch (flow_shard(key)) {
	case 0:
		bpf_map_delete_elem(&FLOW_MAP(a), key);
		break;
	case 1:
		bpf_map_delete_elem(&FLOW_MAP(b), key);
		break;
	case 2:
		bpf_map_delete_elem(&FLOW_MAP(c), key);
		break;
	default:
		bpf_map_delete_elem(&FLOW_MAP(d), key);
		break;
	}
}

static __always_inline void delete_element(const struct flow_key *key)
{
	delete_answered(key);
	bpf_map_delete_elem(&OF_FAMILY(tortie_new), key);
}

/* Takes a pointer out, but none that another CPU has made in its place for the tuple's next flow. */
static __always_inline void delete_pointer(const struct flow_key *key, __u32 cookie)
{
	const struct flow_record *element = answered_element(key);

	if (element && *(const volatile __u64 *)&element->state >> 32 == cookie)
		delete_answered(key);
	element = bpf_map_lookup_elem(&OF_FAMILY(tortie_new), key);
	if (element && *(const volatile __u64 *)&element->state >> 32 == cookie)
		bpf_map_delete_elem(&OF_FAMILY(tortie_new), key);
}

/* Which legs of its flow a packet must have to pass here. */
static __always_inline __u64 legs_needed(const struct packet *packet, __u64 state)
{
	int is_egress = packet->is_out ? packet->from_opener : !packet->from_opener;

	/* What is redirected meets no other program; but by an uplink only one end is a pod of this node. */
	if (packet->is_out && !(state & (FLOW_FLAG_VIA_STACK | FLOW_FLAG_BY_NET)))
		return FLOW_FLAG_EGRESS_OK | FLOW_FLAG_INGRESS_OK;
	return is_egress ? FLOW_FLAG_EGRESS_OK : FLOW_FLAG_INGRESS_OK;
}

/* Whether the node itself has asked a Service, and programs at uplinks translate it. */
static __always_inline int is_own_service(__u64 state)
{
	const __u64 both = FLOW_FLAG_OF_HOST | FLOW_FLAG_DESTINATION;

	return (state & both) == both;
}

/* Whether packets of the flow that come by an uplink are handled there. */
static __always_inline int is_net_flow(const struct packet *packet, __u64 state)
{
	return state & FLOW_FLAG_BY_NET || (is_own_service(state) && !packet->from_opener);
}

/*
 * Of which a flow must have one to pass a host endpoint's program. What a pod's program has let through, or
 * netfilter, which has translated it, if it was answered, is nothing new; whether that may be for the node
 * itself, host.h asks.
 */
static __always_inline __u64 host_legs(const struct packet *packet)
{
	switch (packet->place) {
	case PLACE_HOST_IN:
		return packet->from_opener
			   ? FLOW_FLAG_HOST_INGRESS | FLOW_FLAG_FORWARD_OK | FLOW_FLAG_ANSWERED |
				 FLOW_FLAG_INGRESS_OK
			   : FLOW_FLAG_HOST_EGRESS | FLOW_FLAG_FORWARD_OK | FLOW_FLAG_EGRESS_OK;
	case PLACE_HOST_OUT:
		return packet->from_opener ? FLOW_FLAG_HOST_EGRESS : FLOW_FLAG_HOST_INGRESS;
	default:
		return FLOW_FLAG_FORWARD_OK;
	}
}

/* Whether the packet may pass here without anybody being asked. */
static __always_inline int may_pass(const struct packet *packet, __u64 state)
{
	__u64 needed;

	if (packet->place == PLACE_HOST_FROM_POD)
		return 1;
	if (packet->place >= PLACE_HOST_IN)
		return (state & host_legs(packet)) != 0;
	if (packet->place == PLACE_NET_OUT || (packet->place == PLACE_NET_IN && !packet->from_opener)) {
		/* What the node asks passes an uplink as what it has asked for. */
		if (is_own_service(state))
			return 1;
	}
	needed = legs_needed(packet, state);
	return (state & needed) == needed;
}

/* Whether it is counted here: on its way through the node once. */
static __always_inline int is_counted(const struct packet *packet, __u64 state)
{
	__u64 before = packet->from_opener ? FLOW_FLAG_EGRESS_OK : FLOW_FLAG_INGRESS_OK;

	/* What the node asks of Services: at the pod's device, if it is one of ours, else where it is
	 * translated. */
	if (packet->place >= PLACE_NET_IN && is_own_service(state))
		return packet->place < PLACE_HOST_IN && !(state & FLOW_LEGS_OF_PODS);
	if (packet->place >= PLACE_HOST_IN)
		return !(state & FLOW_LEGS_OF_PODS) && packet->place != PLACE_HOST_FORWARD;
	if (packet->place >= PLACE_NET_IN)
		return (state & FLOW_FLAG_BY_NET) != 0;
	/* The sender's program was there before, if the sender is one of ours. */
	return packet->is_out || !(state & before);
}

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
	if (element) {
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
