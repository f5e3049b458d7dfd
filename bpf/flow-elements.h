/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Elements of the maps of flows, by their keys: which of the answered ones' hashes, and the new ones. For one
 * family (see family.h).
 */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include "consts.h"
#include "flow.h"
#include "flow-shard.h"

#if (FAMILY == 4 && !defined(TORTIE_FLOW_ELEMENTS4_H)) || (FAMILY == 6 && !defined(TORTIE_FLOW_ELEMENTS6_H))
#if FAMILY == 4
#define TORTIE_FLOW_ELEMENTS4_H
#else
#define TORTIE_FLOW_ELEMENTS6_H
#endif

#ifndef TORTIE_FLOW_ELEMENTS_H
#define TORTIE_FLOW_ELEMENTS_H

#define answered_element OF_FAMILY(answered_element)
#define is_heard_of OF_FAMILY(is_heard_of)
#define add_answered OF_FAMILY(add_answered)
#define delete_answered OF_FAMILY(delete_answered)
#define delete_element OF_FAMILY(delete_element)
#define delete_pointer OF_FAMILY(delete_pointer)

#define FLOW_MAP(letter) FLOW_MAP_OF(OF_FAMILY(tortie_flow), letter)
#define FLOW_MAP_OF(name, letter) FLOW_MAP_NAME(name, letter)
#define FLOW_MAP_NAME(name, letter) name##letter

#endif

static __always_inline struct flow_record *answered_element(const struct flow_key *key)
{
	switch (flow_shard(key)) {
	case 0:
		return bpf_map_lookup_elem(&FLOW_MAP(a), key);
	case 1:
		return bpf_map_lookup_elem(&FLOW_MAP(b), key);
	case 2:
		return bpf_map_lookup_elem(&FLOW_MAP(c), key);
	default:
		return bpf_map_lookup_elem(&FLOW_MAP(d), key);
	}
}

/*
 * Whether a TCP packet without SYN may be of a flow that is known: of an answered one, or of a handshake
 * whose opener goes on. A translated flow is answered before it is heard of.
 */
static __always_inline int is_heard_of(const struct flow_key *key)
{
	const struct flow_record *element;

	if (answered_element(key))
		return 1;
	element = bpf_map_lookup_elem(&OF_FAMILY(tortie_new), key);
	return element && (*(const volatile __u64 *)&element->state &
			   (FLOW_FLAG_ANSWERED | FLOW_FLAG_POINTER | FLOW_FLAG_DESTINATION |
			    FLOW_FLAG_SOURCE)) == FLOW_FLAG_ANSWERED;
}

/* BPF_NOEXIST. */
static __always_inline long add_answered(const struct flow_record *element)
{
	switch (flow_shard(&element->key)) {
	case 0:
		return bpf_map_update_elem(&FLOW_MAP(a), &element->key, element, BPF_NOEXIST);
	case 1:
		return bpf_map_update_elem(&FLOW_MAP(b), &element->key, element, BPF_NOEXIST);
	case 2:
		return bpf_map_update_elem(&FLOW_MAP(c), &element->key, element, BPF_NOEXIST);
	default:
		return bpf_map_update_elem(&FLOW_MAP(d), &element->key, element, BPF_NOEXIST);
	}
}

static __always_inline void delete_answered(const struct flow_key *key)
{
	switch (flow_shard(key)) {
	case 0:
		bpf_map_delete_elem(&FLOW_MAP(a), key);
		break;
	case 1:
		bpf_map_delete_elem(&FLOW_MAP(b), key);
		break;
	case 2:
		bpf_map_delete_elem(&FLOW_MAP(c), key);
		break;
	default:
		bpf_map_delete_elem(&FLOW_MAP(d), key);
		break;
	}
}

static __always_inline void delete_element(const struct flow_key *key)
{
	delete_answered(key);
	bpf_map_delete_elem(&OF_FAMILY(tortie_new), key);
}

/* Takes a pointer out, but none that another CPU has made in its place for the tuple's next flow. */
static __always_inline void delete_pointer(const struct flow_key *key, __u32 cookie)
{
	const struct flow_record *element = answered_element(key);

	if (element && *(const volatile __u64 *)&element->state >> 32 == cookie)
		delete_answered(key);
	element = bpf_map_lookup_elem(&OF_FAMILY(tortie_new), key);
	if (element && *(const volatile __u64 *)&element->state >> 32 == cookie)
		bpf_map_delete_elem(&OF_FAMILY(tortie_new), key);
}

#endif
