/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Which of a family's hashes an element is in, a record as well as a pointer: by its own key. The agent,
 *which writes records too, computes the same (dataplanes/ebpf/flows/flow-keys.ts). For one family (see
 *family.h).
 */
#include <linux/types.h>
#include <bpf/bpf_helpers.h>
#include "family.h"

#if (FAMILY == 4 && !defined(TORTIE_FLOW_SHARD4_H)) || (FAMILY == 6 && !defined(TORTIE_FLOW_SHARD6_H))
#if FAMILY == 4
#define TORTIE_FLOW_SHARD4_H
#else
#define TORTIE_FLOW_SHARD6_H
#endif

#ifndef TORTIE_FLOW_SHARD_H
#define TORTIE_FLOW_SHARD_H
#define flow_shard OF_FAMILY(flow_shard)
#endif

/* 0 to FLOW_SHARDS - 1. Padding in the key is zero. */
static __always_inline __u32 flow_shard(const struct flow_key *key)
{
	const __u32 *words = (const __u32 *)key;
	__u32 hash = 0;

#pragma unroll
	for (unsigned int i = 0; i < sizeof(*key) / sizeof(*words); i++) {
		hash = (hash ^ words[i]) * 0x9E3779B1;
		hash ^= hash >> 15;
	}
	return (hash * 0x9E3779B1) >> 30;
}

_Static_assert(FLOW_SHARDS == 4, "two bits of the hash");
_Static_assert(sizeof(struct flow_key) % sizeof(__u32) == 0, "the key is read by words");

#endif
