/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Where Services are reached and who answers: docs/design/ebpf-flows.md. For one family (see family.h). */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include "consts.h"
#include "family.h"

#ifndef TORTIE_SERVICE_MAPS_H
#define TORTIE_SERVICE_MAPS_H

#define frontend_key OF_FAMILY(frontend_key)
#define backend OF_FAMILY(backend)

/* A frontend's value: first << 32 | flags << 24 | count. */
#define FRONTEND_COUNT_MASK 0xffffff

#endif

#if (FAMILY == 4 && !defined(TORTIE_SERVICE_MAPS4_H)) || (FAMILY == 6 && !defined(TORTIE_SERVICE_MAPS6_H))
#if FAMILY == 4
#define TORTIE_SERVICE_MAPS4_H
#else
#define TORTIE_SERVICE_MAPS6_H
#endif

struct frontend_key {
	__u8 address[ADDRESS_BYTES];
	/* The machine's byte order. */
	__u16 port;
	__u8 protocol;
	__u8 _reserved;
};

struct backend {
	__u8 address[ADDRESS_BYTES];
	__u16 port;
	__u16 _reserved;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 65536);
	__type(key, struct frontend_key);
	__type(value, __u64);
} OF_FAMILY(tortie_front) SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 262144);
	__type(key, __u32);
	__type(value, struct backend);
} OF_FAMILY(tortie_back) SEC(".maps");

#endif
