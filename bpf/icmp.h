/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What ICMP messages are to policy and to flows. For one family (see family.h). */
#include "consts.h"
#include "parse.h"
#include "l4.h"
#include "flow.h"

#if (FAMILY == 4 && !defined(TORTIE_ICMP4_H)) || (FAMILY == 6 && !defined(TORTIE_ICMP6_H))
#if FAMILY == 4
#define TORTIE_ICMP4_H
#else
#define TORTIE_ICMP6_H
#endif

#ifndef TORTIE_ICMP_H
#define TORTIE_ICMP_H

#define is_link_talk OF_FAMILY(is_link_talk)
#define keeps_record OF_FAMILY(keeps_record)
#define answers_nothing OF_FAMILY(answers_nothing)

#endif

#if FAMILY == 6
/* The link's own addresses (fe80::/10), and its groups: nothing to them is forwarded. */
static __always_inline int is_on_link(const __u8 *address)
{
	return (address[0] == 0xfe && (address[1] & 0xc0) == 0x80) ||
	       (address[0] == 0xff && (address[1] & 0xf) <= 2);
}
#endif

/*
 * What every IPv6 host says on its link: neighbour discovery (RFC 4861), which no router can have forwarded
 * if its hop limit is whole, and multicast listener reports and queries (RFC 2710, 3810), which none will.
 * Nobody judges it. What a pod sends has its whole hop limit wherever it goes, and the node forwards it: of
 * that only what can't leave the link. IPv4's is ARP, which isn't IPv4.
 */
static __always_inline int is_link_talk(const struct flow_headers *headers, int is_out)
{
#if FAMILY == 4
	return 0;
#else
	__u8 type = headers->tuple.destination_port >> 8;

	if (headers->tuple.protocol != PROTOCOL_ICMPV6 || headers->fragment != FRAGMENT_KIND_NONE)
		return 0;
	if (is_out && headers->hops == ND_HOP_LIMIT && !is_on_link(headers->tuple.destination))
		return 0;
	if (headers->hops == ND_HOP_LIMIT)
		return type == ICMPV6_ROUTER_SOLICIT || type == ICMPV6_NEIGHBOUR_SOLICIT ||
		       type == ICMPV6_NEIGHBOUR_ADVERT ||
		       (!is_out && (type == ICMPV6_ROUTER_ADVERT || type == ICMPV6_REDIRECT));
	if (headers->hops == 1)
		return type == ICMPV6_MLD_REPORT || type == ICMPV6_MLD_DONE || type == ICMPV6_MLD2_REPORT ||
		       (!is_out && type == ICMPV6_MLD_QUERY);
	return 0;
#endif
}

/* Whether a flow of it can be told from others: a record is made for it. */
static __always_inline int keeps_record(const struct flow_tuple *tuple)
{
	__u8 request;

	return !is_icmp(tuple->protocol) ||
	       role_of_icmp(tuple->destination_port >> 8, &request) != ICMP_ROLE_ALONE;
}

/* An answer, and there is no record of a request. */
static __always_inline int answers_nothing(const struct flow_tuple *tuple)
{
	__u8 request;

	return is_icmp(tuple->protocol) &&
	       role_of_icmp(tuple->destination_port >> 8, &request) == ICMP_ROLE_ANSWER;
}

#endif
