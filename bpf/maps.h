/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What the agent tells the programs. Sizes are defaults; the loader sets the configured ones. Names are at
 * most 15 characters (the kernel cuts them) and start with tortie_, by which people recognise them in
 * `bpftool map`.
 */
#ifndef TORTIE_MAPS_H
#define TORTIE_MAPS_H

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include "consts.h"

/*
 * The announced devices: an entry {ifindex: ifindex} opens the device. A device map, though nothing is
 * redirected by it, because the kernel itself removes a device's entry while it unregisters the device,
 * before the ifindex can be given to another: no later device inherits an announcement, whatever the agent
 * does or whether it runs.
 */
struct {
	__uint(type, BPF_MAP_TYPE_DEVMAP_HASH);
	__uint(max_entries, 4096);
	__type(key, __u32);
	__type(value, __u32);
} tortie_devices SEC(".maps");

/* A source prefix of one device. `prefix_len` counts the bits of ifindex and family (64) and of the prefix.
 */
struct source_key {
	__u32 prefix_len;
	__u32 ifindex;
	enum family family;
	/* Network byte order; IPv4 in the first four bytes, the rest zero. */
	__u8 address[16];
};

#define SOURCE_KEY_FIXED_BITS (8 * (__builtin_offsetof(struct source_key, address) - sizeof(__u32)))

/* What a device may send from. The value carries nothing: being there is the permission. */
struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 16384);
	__type(key, struct source_key);
	__type(value, __u32);
} tortie_sources SEC(".maps");

/* Settings that are fixed before the program is loaded. */
struct pod_config {
	/* 0: IPv6 is dropped in both directions. */
	__u8 ipv6_enabled;
	/* What pods may not send, since the node's tunnels, or another node's, would take it for theirs. 1:
	 * IP in IP; the UDP port of VXLAN, 0: they may. */
	__u8 ipip_denied;
	__u16 vxlan_denied;
	/* Bits of a packet's mark: set on what a pod's program gives to the stack; set by OUTPUT on what the
	 * node itself sends. 0: no such bits. */
	__u32 mark_seen;
	__u32 mark_host;
	/* Set on what comes in by a host endpoint: it may be forwarded, and not be for the node itself;
	 * untracked policy has allowed it; preDNAT policy has. */
	__u32 mark_not_local;
	__u32 mark_untracked;
	__u32 mark_pre_accepted;
};

const volatile struct pod_config pod_config = {.ipv6_enabled = 1};

static __always_inline int device_announced(__u32 ifindex)
{
	return bpf_map_lookup_elem(&tortie_devices, &ifindex) != NULL;
}

static __always_inline int source_allowed(const struct source_key *key)
{
	return bpf_map_lookup_elem(&tortie_sources, key) != NULL;
}

#endif
