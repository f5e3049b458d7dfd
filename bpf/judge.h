/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Policy's word on one leg of a packet's flow, and who hears of it. For one family (see family.h). */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include "consts.h"
#include "endpoint-maps.h"
#include "host-maps.h"
#include "packet.h"
#include "classify.h"

#if (FAMILY == 4 && !defined(TORTIE_JUDGE4_H)) || (FAMILY == 6 && !defined(TORTIE_JUDGE6_H))
#if FAMILY == 4
#define TORTIE_JUDGE4_H
#else
#define TORTIE_JUDGE6_H
#endif

#ifndef TORTIE_JUDGE_H
#define TORTIE_JUDGE_H

#define tell OF_FAMILY(tell)
#define judge_leg OF_FAMILY(judge_leg)
#define judge_unit OF_FAMILY(judge_unit)
#define judge_host OF_FAMILY(judge_host)
#define is_failsafe OF_FAMILY(is_failsafe)

static __always_inline struct run_state *run_state(void)
{
	__u32 first = 0;

	return bpf_map_lookup_elem(&tortie_run, &first);
}

/* The slot of a device; 0, which denies, if it has none. */
static __always_inline __u32 slot_of(__u32 ifindex)
{
	const __u64 *found = bpf_map_lookup_elem(&tortie_slots, &ifindex);
	__u64 value = found ? *(const volatile __u64 *)found : 0;

	/* An element that another device has by now says so. */
	return value >> 32 == ifindex ? (__u32)value : 0;
}

/* The slot of a device's host endpoint; 0 if it has none. */
static __always_inline __u32 host_slot_of(__u32 ifindex)
{
	const __u64 *found = bpf_map_lookup_elem(&tortie_hslots, &ifindex);
	__u64 value = found ? *(const volatile __u64 *)found : 0;

	return value >> 32 == ifindex ? (__u32)value : 0;
}

/* HANDOVER_..., or 0. */
static __always_inline __u32 handover_of(const struct run_state *run)
{
	return run ? *(const volatile __u32 *)&run->adopting : 0;
}

/* The slot of an uplink that has our programs; NULL: the device is none. */
static __always_inline const struct host_slot *uplink_at(__u32 ifindex)
{
	__u32 slot = host_slot_of(ifindex);
	const struct host_slot *host = bpf_map_lookup_elem(&tortie_hosts, &slot);

	if (!slot || !host || host->ifindex != ifindex)
		return NULL;
	return *(const volatile __u32 *)&host->flags & HOST_DIRECT ? host : NULL;
}

/* Whether others have programs or filters at that uplink's ingress. */
static __always_inline int is_shared(const struct host_slot *uplink)
{
	return *(const volatile __u32 *)&uplink->flags & HOST_SHARED;
}

/* Whether pods' packets leave by the device past the stack. */
static __always_inline int is_direct(__u32 ifindex)
{
	const struct host_slot *uplink = uplink_at(ifindex);

	return uplink && !is_shared(uplink);
}

/* Added to the index of a host endpoint's unit: nobody is told, since it may be that nobody obeys. */
#define HOST_UNIT_SILENT 0x80

#endif

/* Tells whoever reads events. `unit` 0: no policy was asked. What doesn't fit is lost, and counted. */
__noinline int tell(__u32 ifindex, enum direction direction, enum verdict verdict, __u32 unit)
{
	struct run_state *run = run_state();
	struct packet *packet = this_packet();
	struct flow_event *event;
	const struct flow_tuple *tuple;

	if (!run || !packet || !*(const volatile __u32 *)&run->events)
		return 0;
	/* A flow that is known is no news, unless it is refused. */
	if (packet->is_old && verdict == VERDICT_PASSED)
		return 0;
	event = bpf_ringbuf_reserve(&tortie_events, sizeof(*event), 0);
	if (!event) {
		__sync_fetch_and_add(&run->events_lost, 1);
		return 0;
	}
	__builtin_memset(event, 0, sizeof(*event));
	/* What policy isn't the reason of may not have come as far as being judged. */
	tuple =
	    verdict == VERDICT_PASSED || verdict == VERDICT_POLICY ? &packet->judged : &packet->headers.tuple;
	event->time = bpf_ktime_get_ns();
	__builtin_memcpy(event->source, tuple->source, ADDRESS_BYTES);
	__builtin_memcpy(event->destination, tuple->destination, ADDRESS_BYTES);
	event->source_port = tuple->source_port;
	event->destination_port = tuple->destination_port;
	if (packet->is_out && packet->translation == TRANSLATION_PACKET) {
		__builtin_memcpy(event->before, packet->headers.tuple.destination, ADDRESS_BYTES);
		event->before_port = packet->headers.tuple.destination_port;
	}
	event->protocol = tuple->protocol;
	event->family = FAMILY;
	event->ifindex = ifindex;
	event->direction = direction;
	event->verdict = verdict;
	event->rule = RULE_INDEX_NONE;
	if (unit) {
		event->unit = unit;
		event->rule = packet->decision.rule;
	}
	bpf_ringbuf_submit(event, 0);
	return 0;
}

/*
 * What a unit says of packet->judged; `otherwise` without one. Who listens is told a decision. Rules of
 * staged policies stand in the unit and decide nothing.
 */
static __always_inline enum rule_action judge_unit(struct packet *packet, __u32 ifindex,
						   enum direction direction, __u32 unit,
						   enum rule_action otherwise, int is_silent)
{
	enum rule_action action = otherwise;

	packet->decision.rule = RULE_INDEX_NONE;
	if (unit) {
		classify(unit, &packet->judged, packet->length, &packet->decision);
		action = packet->decision.action;
		if (action != RULE_ACTION_ALLOW && action != RULE_ACTION_UNDECIDED)
			action = RULE_ACTION_DENY;
	}
	if (is_silent)
		return action;
	if (action != RULE_ACTION_UNDECIDED)
		tell(ifindex, direction, action == RULE_ACTION_ALLOW ? VERDICT_PASSED : VERDICT_POLICY, unit);
	return action;
}

/*
 * Judges packet->judged by a unit of a host endpoint: HOST_UNIT_..., with OUT for egress, perhaps SILENT.
 * Allow, deny, or undecided: what isn't asked decides nothing. `owner` is the slot's device, 0 for that of
 * the pods' devices; `ifindex` the one that is told of.
 */
__noinline int judge_host(__u32 slot, __u32 owner, __u32 kind, __u32 ifindex)
{
	struct packet *packet = this_packet();
	__u32 index = (kind + (FAMILY == 6 ? HOST_UNIT_IPV6 : 0)) & (HOST_UNITS - 1);
	const struct host_slot *host;
	__u32 unit;

	if (!packet)
		return RULE_ACTION_DENY;
	host = bpf_map_lookup_elem(&tortie_hosts, &slot);
	if (!slot || !host || host->ifindex != owner)
		return RULE_ACTION_UNDECIDED;
	unit = *(const volatile __u32 *)&host->unit[index];
	packet->unit = unit;
	if (!unit)
		return RULE_ACTION_UNDECIDED;
	return judge_unit(packet, ifindex, kind & HOST_UNIT_OUT ? DIRECTION_FROM_POD : DIRECTION_TO_POD, unit,
			  RULE_ACTION_UNDECIDED, kind & HOST_UNIT_SILENT);
}

/*
 * Whether packet->judged is for a failsafe port: of the node, or where it goes to. `with_answers`: or comes
 * from one of the other list, as what nobody tracks.
 */
__noinline int is_failsafe(__u32 direction, __u32 with_answers)
{
	struct packet *packet = this_packet();
	struct failsafe_key key = {.prefix_len = FAILSAFE_KEY_FIXED_BITS + 8 * ADDRESS_BYTES};
	const struct flow_tuple *tuple;

	if (!packet)
		return 0;
	tuple = &packet->judged;
	if (!has_ports(tuple->protocol))
		return 0;
	key.direction = direction;
	key.protocol = tuple->protocol;
	key.port = tuple->destination_port;
	__builtin_memcpy(key.address, direction == FAILSAFE_IN ? tuple->source : tuple->destination,
			 ADDRESS_BYTES);
	if (bpf_map_lookup_elem(&OF_FAMILY(tortie_failsafe), &key))
		return 1;
	if (!with_answers)
		return 0;
	key.direction = direction == FAILSAFE_IN ? FAILSAFE_OUT : FAILSAFE_IN;
	key.port = tuple->source_port;
	return bpf_map_lookup_elem(&OF_FAMILY(tortie_failsafe), &key) != NULL;
}

/*
 * Judges packet->judged by a pod's unit: VERDICT_PASSED or VERDICT_POLICY. `kind` is UNIT_EGRESS or
 * UNIT_INGRESS.
 */
__noinline int judge_leg(__u32 slot, __u32 ifindex, __u32 kind)
{
	enum direction direction = kind == UNIT_EGRESS ? DIRECTION_FROM_POD : DIRECTION_TO_POD;
	struct packet *packet = this_packet();
	__u32 index = kind == UNIT_EGRESS ? UNIT_EGRESS : UNIT_INGRESS;
	__u32 unit = 0;
	const struct pod_slot *pod;

	if (!packet)
		return VERDICT_POLICY;
	if (FAMILY == 6)
		index += 1;
	pod = bpf_map_lookup_elem(&tortie_pods, &slot);
	if (slot && pod && pod->ifindex == ifindex) {
		unit = *(const volatile __u32 *)&pod->unit[index];
	}
	return judge_unit(packet, ifindex, direction, unit, RULE_ACTION_DENY, 0) == RULE_ACTION_ALLOW
		   ? VERDICT_PASSED
		   : VERDICT_POLICY;
}

#endif
