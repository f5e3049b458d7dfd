/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Packets turned into an ICMP error to their sender. For one family (see family.h).
 */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>
#include "consts.h"
#include "l4.h"

#if (FAMILY == 4 && !defined(TORTIE_REFUSE4_H)) || (FAMILY == 6 && !defined(TORTIE_REFUSE6_H))
#if FAMILY == 4
#define TORTIE_REFUSE4_H
#else
#define TORTIE_REFUSE6_H
#endif

#ifndef TORTIE_REFUSE_H
#define TORTIE_REFUSE_H

#define refuse_packet OF_FAMILY(refuse_packet)

/* What the sender is told. */
enum refusal {
	/* Nobody listens: connect() fails with ECONNREFUSED at once. */
	REFUSAL_PORT = 0,
	/* The hop limit is used up. */
	REFUSAL_HOPS = 1,
	/* The packet is longer than the MTU, and may not be cut. */
	REFUSAL_TOO_BIG = 2,
};

/*
 * Back into the pod that the packet came from, to be returned by a program on clsact's ingress of the pod's
 * host end. Goes into the pod at once: tortie_to_pod doesn't see it, nothing needs to recognise it.
 */
static __always_inline int send_back(struct __sk_buff *skb)
{
	/* Before 6.12 nothing takes the mark off on the way into the pod. */
	skb->mark = 0;
	return bpf_redirect_peer(skb->ifindex, 0);
}

#endif

/*
 * Turns the packet into the answer to its sender, from the address that it was sent to, MACs included; call
 * it before the packet is translated, since it quotes it. `mtu`: of REFUSAL_TOO_BIG, else 0. Returns 1: send
 * it (send_back); 0: there is no answer to such a packet (an error, a later fragment, a broadcast, a source
 * that is no host), or the sender has had enough of them: drop it. All that was known of the packet
 * (`headers`) is void then.
 */
int refuse_packet(struct __sk_buff *skb, const struct flow_headers *headers, enum refusal refusal, __u32 mtu);

#endif
