/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Which flow a later fragment is of: the first one, which has the ports, notes them. For one family (see
 * family.h).
 */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include "consts.h"
#include "flow-maps.h"
#include "l4.h"

#if (FAMILY == 4 && !defined(TORTIE_FRAGMENT4_H)) || (FAMILY == 6 && !defined(TORTIE_FRAGMENT6_H))
#if FAMILY == 4
#define TORTIE_FRAGMENT4_H
#else
#define TORTIE_FRAGMENT6_H
#endif

#ifndef TORTIE_FRAGMENT_H
#define TORTIE_FRAGMENT_H

#define fragment_key_of OF_FAMILY(fragment_key_of)
#define remember_fragment OF_FAMILY(remember_fragment)
#define recall_fragment OF_FAMILY(recall_fragment)

#endif

static __always_inline void fragment_key_of(const struct flow_headers *headers, struct fragment_key *key)
{
	__builtin_memset(key, 0, sizeof(*key));
	__builtin_memcpy(key->source, headers->tuple.source, ADDRESS_BYTES);
	__builtin_memcpy(key->destination, headers->tuple.destination, ADDRESS_BYTES);
	key->id = headers->fragment_id;
#if FAMILY == 4
	key->protocol = headers->tuple.protocol;
#endif
}

/*
 * Notes the ports of a FRAGMENT_KIND_FIRST, as the sender sent it: before it is translated, and once it is
 * sure to be let through. Returns 0, or what the map said (an LRU map that has no element left to evict).
 */
__noinline int remember_fragment(const struct flow_headers *headers)
{
	struct fragment_ports ports = {};
	struct fragment_key key;

	if (!headers)
		return -1;
	fragment_key_of(headers, &key);
	ports.source_port = headers->tuple.source_port;
	ports.destination_port = headers->tuple.destination_port;
	ports.protocol = headers->tuple.protocol;
	return bpf_map_update_elem(&OF_FAMILY(tortie_frag), &key, &ports, BPF_ANY);
}

/*
 * Gives a FRAGMENT_KIND_LATER the ports and the protocol of its first fragment: headers->tuple is then that
 * of its flow. VERDICT_PASSED, or VERDICT_FRAGMENT: the first one was not seen, or forgotten.
 */
__noinline int recall_fragment(struct flow_headers *headers)
{
	struct fragment_key key;

	if (!headers)
		return VERDICT_FRAGMENT;
	fragment_key_of(headers, &key);
	/* Elements are used again at once: see STABLE_READS. */
#pragma unroll
	for (int i = 0; i < STABLE_READS; i++) {
		const __u64 *found = bpf_map_lookup_elem(&OF_FAMILY(tortie_frag), &key);
		struct fragment_ports ports;
		__u64 value;

		if (!found)
			return VERDICT_FRAGMENT;
		value = *(const volatile __u64 *)found;
		order_reads();
		if (bpf_map_lookup_elem(&OF_FAMILY(tortie_frag), &key) != found)
			continue;
		order_reads();
		if (*(const volatile __u64 *)found != value)
			continue;
		_Static_assert(sizeof(ports) == sizeof(value), "read as one");
		__builtin_memcpy(&ports, &value, sizeof(ports));
		headers->tuple.source_port = ports.source_port;
		headers->tuple.destination_port = ports.destination_port;
		headers->tuple.protocol = ports.protocol;
		return VERDICT_PASSED;
	}
	return VERDICT_FRAGMENT;
}

#endif
