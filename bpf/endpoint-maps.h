/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What the agent says of this node's endpoints and of the ways to addresses: docs/design/ebpf-flows.md. */
#ifndef TORTIE_ENDPOINT_MAPS_H
#define TORTIE_ENDPOINT_MAPS_H

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include "consts.h"

/* Which of an endpoint's units. The index is direction * 2 + (IPv6 ? 1 : 0). */
#define UNIT_EGRESS 0
#define UNIT_INGRESS 2
#define UNIT_KINDS 4

/* The device has qdiscs of its own: what the pod sends goes by them, and so by the stack. */
#define POD_SHAPED 1

/* One pod's device. Numbers are stored one by one: each is right by itself at any moment. */
struct pod_slot {
	/* 0: everything is denied. */
	__u32 unit[UNIT_KINDS];
	__u32 ifindex;
	/* Of the pod's end, of the host's. */
	__u8 pod_mac[6];
	__u8 host_mac[6];
	/* One address of each family to which this device, and no other, is the way; 0: none is said. */
	__u8 address4[4];
	__u8 address6[16];
	/* POD_... */
	__u32 flags;
};

/* ifindex -> ifindex << 32 | slot */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 4096);
	__type(key, __u32);
	__type(value, __u64);
} tortie_slots SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 4096);
	__type(key, __u32);
	__type(value, struct pod_slot);
} tortie_pods SEC(".maps");

enum hop_kind {
	/* Nothing is known of it: the stack. */
	HOP_KIND_NONE = 0,
	/* A pod of this node. */
	HOP_KIND_POD = 1,
	/* The node itself. */
	HOP_KIND_HOST = 2,
	/* Elsewhere. */
	HOP_KIND_STACK = 3,
};

/* The address belongs to a pool: nobody is masqueraded towards it. To one that masquerades what leaves the
 * pools. */
#define HOP_IN_POOL 1
#define HOP_NAT_OUTGOING 2
/* A pod whose device has qdiscs of its own: what it gets goes by them, and so by the stack. */
#define HOP_SHAPED 4

/* Never changed while an address refers to it. */
struct hop {
	enum hop_kind kind;
	__u32 flags;
	/* Of a POD: its device and its slot. */
	__u32 ifindex;
	__u32 slot;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 16384);
	__type(key, __u32);
	__type(value, struct hop);
} tortie_hops SEC(".maps");

/* Flows of the other dataplane are being taken over; ours are being handed over to it. */
#define HANDOVER_IN 1
#define HANDOVER_OUT 2

/* What changes while the programs run; one element. */
struct run_state {
	/* HANDOVER_...; 0: neither. */
	__u32 adopting;
	/* 1: somebody reads tortie_events. */
	__u32 events;
	/* The node's addresses, for a pod that is its own backend; 0: none. */
	__u8 host4[4];
	__u8 host6[16];
	/* 1: some host endpoint has policy for what is forwarded in by its device; out by it. */
	__u32 forward_ingress;
	__u32 forward_egress;
	/* The host endpoint (index into tortie_hosts) that the pods' devices have, too; 0: none. */
	__u32 pods_host;
	/* How many events found no room in tortie_events. */
	__u32 events_lost;
	/* The ports that masqueraded flows get, first and last; 0: netfilter masquerades all. */
	__u32 nat_first;
	__u32 nat_last;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct run_state);
} tortie_run SEC(".maps");

/* What happened to a flow: a new one, or a packet that was refused. */
struct flow_event {
	/* CLOCK_MONOTONIC, ns */
	__u64 time;
	/* Network byte order, IPv4 in the first four bytes. The tuple that was judged, after translation; of
	   a packet that is dropped for another reason than policy: as it came. */
	__u8 source[16];
	__u8 destination[16];
	/* What the opener asked for, if that was translated, else zero. */
	__u8 before[16];
	__u16 source_port;
	__u16 destination_port;
	__u16 before_port;
	__u8 protocol;
	/* enum family */
	__u8 family;
	/* Of the device whose leg it was. */
	__u32 ifindex;
	enum direction direction;
	enum verdict verdict;
	/* What decided: the unit and its rule word (RULE_INDEX_NONE: none). */
	__u32 unit;
	__u32 rule;
	__u32 _reserved;
};

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 262144);
} tortie_events SEC(".maps");

#endif
