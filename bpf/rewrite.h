/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What a packet's headers are changed into, with all checksums right afterwards: docs/design/ebpf-flows.md
 * has the table. For one family (see family.h).
 *
 * No pointers into the packet: it is read and written by helpers, which make a clone writable only when
 * something is written. Functions return VERDICT_PASSED or the reason to drop the packet, which may be half
 * changed then.
 */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>
#include "consts.h"
#include "l4.h"

#if (FAMILY == 4 && !defined(TORTIE_REWRITE4_H)) || (FAMILY == 6 && !defined(TORTIE_REWRITE6_H))
#if FAMILY == 4
#define TORTIE_REWRITE4_H
#else
#define TORTIE_REWRITE6_H
#endif

#ifndef TORTIE_REWRITE_H
#define TORTIE_REWRITE_H

#define rewrite_packet OF_FAMILY(rewrite_packet)
#define rewrite_error OF_FAMILY(rewrite_error)
#define lower_hops OF_FAMILY(lower_hops)

/* The frame's MACs, both, for a redirect. */
static __always_inline enum verdict set_macs(struct __sk_buff *skb, const __u8 destination[6],
					     const __u8 source[6])
{
	__u8 macs[12];

	__builtin_memcpy(macs, destination, 6);
	__builtin_memcpy(macs + 6, source, 6);
	/* Checksums of the kernel begin behind the Ethernet header: nothing to be made anew. */
	return bpf_skb_store_bytes(skb, 0, macs, sizeof(macs), 0) ? VERDICT_REWRITE : VERDICT_PASSED;
}

/*
 * Whether the packet, or each that is cut out of it if it is many in one (GSO), is short enough for the
 * device: 1 or 0. `*mtu`: the device's, in bytes of IP; 0 if there is no such device, which nothing fits.
 */
static __always_inline int fits_device(struct __sk_buff *skb, __u32 ifindex, __u32 *mtu)
{
	*mtu = 0;
	return bpf_check_mtu(skb, ifindex, mtu, 0, BPF_MTU_CHK_SEGS) == 0;
}

#endif

/*
 * Makes the packet's tuple `to`; `headers->tuple` is that afterwards. Where the protocol has no ports that
 * can be changed, those of `to` are not looked at: a later fragment has none, of ICMP it is source_port, the
 * identifier, if the type has one. SCTP with other ports is VERDICT_SCTP_PORT. The protocol must be the same.
 */
int rewrite_packet(struct __sk_buff *skb, struct flow_headers *headers, const struct flow_tuple *to);

/*
 * Translates an ICMP error: the packet that it quotes (`quoted`: parse_headers at headers->l4_offset +
 * ICMP_HEADER) gets the tuple `to`, in its own direction, that is: as its sender sent it. The error goes to
 * the source of that then; and if it came from the quoted packet's destination, it comes from that of `to`,
 * else its source stays (a router's). Both headers' tuples are as translated afterwards.
 */
int rewrite_error(struct __sk_buff *skb, struct flow_headers *headers, struct flow_headers *quoted,
		  const struct flow_tuple *to);

/*
 * Takes one off the hop limit (TTL), as who forwards a packet must. VERDICT_HOP_LIMIT, and nothing changed,
 * if none would be left: REFUSAL_HOPS says so to the sender.
 */
int lower_hops(struct __sk_buff *skb, struct flow_headers *headers);

#endif
