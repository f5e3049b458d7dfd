/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What a flow's record says of a packet at the place where it is: whether it may pass, whose it is, whether
 * it is counted. docs/design/ebpf-flows.md, "Two legs". For one family (see family.h).
 */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include "consts.h"
#include "packet.h"
#include "flow.h"

#if (FAMILY == 4 && !defined(TORTIE_LEGS4_H)) || (FAMILY == 6 && !defined(TORTIE_LEGS6_H))
#if FAMILY == 4
#define TORTIE_LEGS4_H
#else
#define TORTIE_LEGS6_H
#endif

#ifndef TORTIE_LEGS_H
#define TORTIE_LEGS_H

#define legs_needed OF_FAMILY(legs_needed)
#define is_own_service OF_FAMILY(is_own_service)
#define is_net_flow OF_FAMILY(is_net_flow)
#define host_legs OF_FAMILY(host_legs)
#define may_pass OF_FAMILY(may_pass)
#define is_counted OF_FAMILY(is_counted)

/* Of a flow that programs at pods' devices, or for pods, have let through. */
#define FLOW_LEGS_OF_PODS (FLOW_FLAG_EGRESS_OK | FLOW_FLAG_INGRESS_OK)

#endif

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

#endif
