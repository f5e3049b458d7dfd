/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Who answers for a Service: docs/design/ebpf-flows.md. For one family (see family.h). */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include "consts.h"
#include "classify.h"
#include "service-maps.h"

#if (FAMILY == 4 && !defined(TORTIE_SERVICE4_H)) || (FAMILY == 6 && !defined(TORTIE_SERVICE6_H))
#if FAMILY == 4
#define TORTIE_SERVICE4_H
#else
#define TORTIE_SERVICE6_H
#endif

#ifndef TORTIE_SERVICE_H
#define TORTIE_SERVICE_H

#define find_frontend OF_FAMILY(find_frontend)
#define find_backend OF_FAMILY(find_backend)

enum service_answer {
	/* Nobody is asked for there: the packet goes where it says. */
	SERVICE_ANSWER_NO_FRONTEND = 0,
	/* A frontend, and who answers for it. */
	SERVICE_ANSWER_BACKEND = 1,
	/* A frontend that nobody answers for, or whose run of backends isn't there: VERDICT_NO_BACKEND. */
	SERVICE_ANSWER_NO_BACKEND = 2,
	/* SCTP, and the backend has another port: VERDICT_SCTP_PORT. */
	SERVICE_ANSWER_SCTP_PORT = 3,
	/* The frontend was being written each time that it was read: drop this packet, the next one finds it.
	 */
	SERVICE_ANSWER_UNSTABLE = 4,
};

#endif

/*
 * The value of a frontend. Frontends are in a hash that isn't preallocated (see STABLE_READS in search.h), so
 * a value is believed if the key still leads to where it was read, and it is the same there then; a write
 * puts a new element in the old one's place. A walk through a bucket can miss a key that is there: a
 * neighbour on which it stands is replaced, and its memory becomes the key's new element, before which the
 * walk has passed. So a miss is believed the second time.
 */
static __always_inline enum found find_frontend(const struct frontend_key *key, __u64 *value)
{
	int misses = 0;

#pragma unroll
	for (int i = 0; i < STABLE_READS; i++) {
		const __u64 *found = bpf_map_lookup_elem(&OF_FAMILY(tortie_front), key);

		if (!found) {
			if (misses++)
				return FOUND_NONE;
			continue;
		}
		*value = *(const volatile __u64 *)found;
		order_reads();
		if (bpf_map_lookup_elem(&OF_FAMILY(tortie_front), key) != found)
			continue;
		order_reads();
		if (*(const volatile __u64 *)found == *value)
			return FOUND_VALUE;
	}
	return FOUND_UNSTABLE;
}

/*
 * Who answers a packet of this tuple, by what it says: its destination is looked for among the frontends, and
 * one of the backends there taken at random. `*backend` is written in any case, and means something with
 * SERVICE_ANSWER_BACKEND. Returns enum service_answer. Later fragments have their ports from fragment.h.
 * A function of its own: some 110 bytes of stack for IPv6.
 */
__noinline int find_backend(const struct flow_tuple *tuple, struct backend *backend)
{
	struct frontend_key key = {};
	const struct backend *found;
	__u64 frontend = 0;
	__u32 count, index;

	if (!tuple || !backend)
		return SERVICE_ANSWER_NO_BACKEND;
	__builtin_memset(backend, 0, sizeof(*backend));
	if (!has_ports(tuple->protocol))
		return SERVICE_ANSWER_NO_FRONTEND;
	__builtin_memcpy(key.address, tuple->destination, ADDRESS_BYTES);
	key.port = tuple->destination_port;
	key.protocol = tuple->protocol;
	switch (find_frontend(&key, &frontend)) {
	case FOUND_NONE:
		return SERVICE_ANSWER_NO_FRONTEND;
	case FOUND_UNSTABLE:
		return SERVICE_ANSWER_UNSTABLE;
	default:
		break;
	}
	count = frontend & FRONTEND_COUNT_MASK;
	if (count == 0)
		return SERVICE_ANSWER_NO_BACKEND;
	/* A share of 2^32 each, without a division. */
	index = (frontend >> 32) + (((__u64)bpf_get_prandom_u32() * count) >> 32);
	/* The map knows its bounds. */
	found = bpf_map_lookup_elem(&OF_FAMILY(tortie_back), &index);
	if (!found)
		return SERVICE_ANSWER_NO_BACKEND;
	*backend = *found;
	if (tuple->protocol == PROTOCOL_SCTP && backend->port != tuple->destination_port)
		return SERVICE_ANSWER_SCTP_PORT;
	return SERVICE_ANSWER_BACKEND;
}

#endif
