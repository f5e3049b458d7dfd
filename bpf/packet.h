/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What is known of the packet that a program handles, and what becomes of it. Too large for the stack, and
 * handed from function to function: a CPU handles one packet at a time, with softirqs off. For one family
 * (see family.h).
 */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include "consts.h"
#include "classify.h"
#include "endpoint-maps.h"
#include "flow-maps.h"
#include "service-maps.h"
#include "l4.h"

#if (FAMILY == 4 && !defined(TORTIE_PACKET4_H)) || (FAMILY == 6 && !defined(TORTIE_PACKET6_H))
#if FAMILY == 4
#define TORTIE_PACKET4_H
#else
#define TORTIE_PACKET6_H
#endif

#ifndef TORTIE_PACKET_H
#define TORTIE_PACKET_H

#define packet OF_FAMILY(packet)
#define this_packet OF_FAMILY(this_packet)
#define begin_packet OF_FAMILY(begin_packet)

/* Where a packet goes that isn't refused. */
enum way {
	WAY_STACK = 0,
	/* Into the pod of `hop`, past its device's filter. */
	WAY_POD = 1,
	/* Back into the pod that sent it, as an answer. */
	WAY_BACK = 2,
	/* Nowhere: its sender's leg was passed, the receiver's refused. */
	WAY_NOWHERE = 3,
	/* Out by an uplink, past the stack. */
	WAY_NET = 4,
	/* To the node, as if it had come by an uplink. */
	WAY_NODE = 5,
};

/* What is to be changed in it. */
enum translation {
	TRANSLATION_NONE = 0,
	/* Its tuple. */
	TRANSLATION_PACKET = 1,
	/* It is an ICMP error, and what it quotes is. */
	TRANSLATION_ERROR = 2,
};

/* Which program handles the packet. */
enum place {
	/* At the device of the pod that sends it, of the one that gets it. */
	PLACE_POD_OUT = 0,
	PLACE_POD_IN = 1,
	/* At an uplink: it comes in; the node itself sends it. */
	PLACE_NET_IN = 2,
	PLACE_NET_OUT = 3,
	/* At a device with a host endpoint: it comes in. */
	PLACE_HOST_IN = 4,
	/* It goes out: the node itself sends it; it is forwarded, from a pod or by nobody's program. */
	PLACE_HOST_OUT = 5,
	PLACE_HOST_FROM_POD = 6,
	PLACE_HOST_FORWARD = 7,
};

/* What find_flow does with the record. */
enum flow_task {
	/* The packet is one of the flow. */
	FLOW_TASK_USE = 0,
	/* It only tells something about it. */
	FLOW_TASK_LOOK = 1,
	/* `legs` were allowed. */
	FLOW_TASK_ALLOW = 2,
};

#endif

struct packet {
	/* As it came, and once it is translated, as it was changed. */
	struct flow_headers headers;
	/* What an ICMP error quotes. */
	struct flow_headers quoted;
	/* What is to become of the tuple; of an error: of the quoted one. */
	struct flow_tuple to;
	/* What policy is asked about. */
	struct flow_tuple judged;
	/* What is looked up. */
	struct flow_key key;
	/* The flow, and an element being written. */
	struct flow_record record;
	struct flow_record fresh;
	struct decision decision;
	struct backend backend;
	/* Of the destination, if has_hop. */
	struct hop hop;
	__u32 has_hop;
	/* The frame, as it came. */
	__u32 length;
	enum place place;
	/* 1: at the device of the pod that sends it. */
	__u32 is_out;
	/* Which end of the key sent it; whether that is the opener; whether it has the tuple before
	   translation. */
	__u32 sender;
	__u32 from_opener;
	__u32 via_pointer;
	/* Of the pointer that led to the record; 0: none did. Of the record to which task ALLOW is meant. */
	__u32 cookie;
	__u32 allowed;
	enum flow_task task;
	/* enum flow_flag: legs that are allowed now. */
	__u32 legs;
	/* The stack gets it, whoever it is for. */
	__u32 via_stack;
	/* It has gone past the stack to a pod of this node before: it does, whatever that pod's device has by
	 * now. */
	__u32 keeps_way;
	/* It leaves by an uplink, if it isn't for a pod of this node; it is a Service's answer to the node.
	 */
	__u32 by_net;
	__u32 to_node;
	/* What find_route looks up, and what it found: the device (0: none) and the next hop. Of the packet,
	   if has_route. */
	struct flow_tuple routed;
	struct bpf_fib_lookup route;
	__u32 has_route;
	/* 1: longer than the route allows. */
	__u32 too_long;
	enum translation translation;
	enum way way;
	/* 1: its flow is known, no news. */
	__u32 is_old;
	/* 1: preDNAT policy has allowed it. */
	__u32 pre_accepted;
	/* Of a host endpoint's program: the device's slot; the unit that was asked last; 1: untracked policy
	 * has allowed it; 1: it is not for the node itself, or refused there. */
	__u32 host;
	__u32 unit;
	__u32 untracked;
	__u32 not_local;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__uint(key_size, sizeof(__u32));
	__uint(value_size, sizeof(struct packet));
} OF_FAMILY(tortie_packet) SEC(".maps");

static __always_inline struct packet *this_packet(void)
{
	__u32 first = 0;

	return bpf_map_lookup_elem(&OF_FAMILY(tortie_packet), &first);
}

/* Nothing is left of the last packet. */
static __always_inline void begin_packet(struct packet_context *skb, struct packet *packet, enum place place)
{
	packet->length = length_of(skb);
	packet->place = place;
	packet->is_out = place == PLACE_POD_OUT;
	packet->has_hop = 0;
	packet->has_route = 0;
	packet->via_stack = 0;
	packet->keeps_way = 0;
	packet->by_net = 0;
	packet->to_node = 0;
	packet->translation = TRANSLATION_NONE;
	packet->way = WAY_STACK;
	packet->task = FLOW_TASK_USE;
	packet->legs = 0;
	packet->is_old = 0;
	packet->pre_accepted = 0;
	packet->untracked = 0;
	packet->not_local = 0;
}

#endif
