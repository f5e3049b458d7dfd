/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What the agent says of the node's host endpoints: docs/design/ebpf-hosts.md. For one family (see family.h).
 */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include "consts.h"
#include "family.h"

#ifndef TORTIE_HOST_MAPS_H
#define TORTIE_HOST_MAPS_H

#define failsafe_key OF_FAMILY(failsafe_key)

/*
 * Which of a host endpoint's units: the index is one of these, plus HOST_UNIT_OUT for egress, plus
 * HOST_UNIT_IPV6.
 */
#define HOST_UNIT_ORDINARY 0
#define HOST_UNIT_FORWARD 4
/* Ingress only. */
#define HOST_UNIT_PRE_DNAT 8
#define HOST_UNIT_UNTRACKED 12
#define HOST_UNITS 16
#define HOST_UNIT_OUT 2
#define HOST_UNIT_IPV6 1

/* In a slot's flags: packets of the device begin with the network header. */
#define HOST_WITHOUT_ETHERNET 1
/* An uplink with our programs on it: pods' packets may come and leave by it past the stack. */
#define HOST_DIRECT 2
/*
 * Others' programs or filters are at its ingress: pods' packets go by the stack, so that these see them, but
 * for flows that only we can translate.
 */
#define HOST_SHARED 4

/* The host endpoint of one device. Numbers are stored one by one: each is right by itself at any moment. */
struct host_slot {
	/* 0: not asked (unlike a pod's). */
	__u32 unit[HOST_UNITS];
	/* 0: the pods' devices, see run_state. */
	__u32 ifindex;
	__u32 flags;
	/* The device's address: XDP drops no frames that are for others. */
	__u8 mac[6];
	__u16 _reserved;
	/* What pods that are masqueraded have for a source where they leave by it; 0: netfilter says. */
	__u8 masquerade4[4];
	__u8 masquerade6[16];
};

/* ifindex -> ifindex << 32 | slot, for devices with a host endpoint, and uplinks. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1024);
	__type(key, __u32);
	__type(value, __u64);
} tortie_hslots SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 2048);
	__type(key, __u32);
	__type(value, struct host_slot);
} tortie_hosts SEC(".maps");

#define FAILSAFE_IN 0
#define FAILSAFE_OUT 1
/* What a failsafe_key's prefix_len counts before the bits of the network. */
#define FAILSAFE_KEY_FIXED_BITS 32

#endif

#if (FAMILY == 4 && !defined(TORTIE_HOST_MAPS4_H)) || (FAMILY == 6 && !defined(TORTIE_HOST_MAPS6_H))
#if FAMILY == 4
#define TORTIE_HOST_MAPS4_H
#else
#define TORTIE_HOST_MAPS6_H
#endif

/* A port of the node (IN) or elsewhere (OUT) that stays open, for a network of other ends. */
struct failsafe_key {
	__u32 prefix_len;
	/* FAILSAFE_IN or FAILSAFE_OUT. */
	__u8 direction;
	__u8 protocol;
	/* The machine's byte order: it is compared as a whole. */
	__u16 port;
	__u8 address[ADDRESS_BYTES];
};

/* The value carries nothing: being there is the permission. */
struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1024);
	__type(key, struct failsafe_key);
	__type(value, __u32);
} OF_FAMILY(tortie_failsafe) SEC(".maps");

#endif
