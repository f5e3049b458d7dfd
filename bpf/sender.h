/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Whether a pod may say what it says of itself on its link. */
#ifndef TORTIE_SENDER_H
#define TORTIE_SENDER_H

#include "consts.h"
#include "maps.h"
#include "parse.h"

static __always_inline enum verdict judge_arp(struct cursor *cursor, __u32 ifindex)
{
	struct source_key key = {
	    .prefix_len = SOURCE_KEY_FIXED_BITS + 32,
	    .ifindex = ifindex,
	    .family = FAMILY_IPV4,
	};
	const struct arp_packet *arp = cursor_take(cursor, sizeof(*arp));

	if (!arp)
		return VERDICT_TRUNCATED;
	if (arp->hardware_type != bpf_htons(ARP_HARDWARE_ETHERNET) ||
	    arp->protocol_type != bpf_htons(ETH_P_IP) || arp->hardware_length != 6 ||
	    arp->protocol_length != 4)
		return VERDICT_MALFORMED;
	if (arp->operation != bpf_htons(ARP_REQUEST) && arp->operation != bpf_htons(ARP_REPLY))
		return VERDICT_MALFORMED;
	__builtin_memcpy(key.address, arp->sender_ip, 4);
	/* A probe for a duplicate asks from 0.0.0.0 (RFC 5227 2.1.1) and teaches nobody anything. */
	if (*(__u32 *)key.address == 0 && arp->operation == bpf_htons(ARP_REQUEST))
		return VERDICT_PASSED;
	return source_allowed(&key) ? VERDICT_PASSED : VERDICT_SPOOFED_ARP;
}

static __always_inline int is_link_local_or_unspecified(const struct source_key *key)
{
	const __u32 *words = (const __u32 *)key->address;

	if ((words[0] & bpf_htonl(0xffc00000)) == bpf_htonl(0xfe800000))
		return 1;
	return (words[0] | words[1] | words[2] | words[3]) == 0;
}

#endif
