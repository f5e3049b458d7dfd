// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Both directions of an announced pod device, behind the filters of attach.bpf.c: docs/design/ebpf-flows.md.
 */
#include "consts.h"
#include "maps.h"
#include "parse.h"
#include "counters.h"
#include "endpoint-maps.h"
#include "sender.h"

#define FAMILY 4
#include "pod-out.h"
#include "pod-in.h"
#include "established.h"
#undef FAMILY
#define FAMILY 6
#include "pod-out.h"
#include "pod-in.h"
#include "established.h"
#undef FAMILY

static __always_inline enum verdict arp_out(struct __sk_buff *skb)
{
	struct cursor cursor = {.skb = skb, .offset = ETH_HLEN};

	return judge_arp(&cursor, skb->ifindex);
}

/* What a pod sends. */
SEC("tc")
int tortie_pod_out(struct __sk_buff *skb)
{
	int action;

	/* The kernel took a VLAN tag out of the frame before we see it. */
	if (skb->vlan_present)
		return conclude(skb, DIRECTION_FROM_POD, VERDICT_ETHERTYPE);
	switch (bpf_ntohs(skb->protocol)) {
	case ETH_P_IP:
		action = known_out4(skb);
		return action == GO_ON ? dispatch_out4(skb, packet_out4(skb)) : action;
	case ETH_P_IPV6:
		if (!pod_config.ipv6_enabled)
			return conclude(skb, DIRECTION_FROM_POD, VERDICT_IPV6_DISABLED);
		action = known_out6(skb);
		return action == GO_ON ? dispatch_out6(skb, packet_out6(skb)) : action;
	case ETH_P_ARP:
		return conclude(skb, DIRECTION_FROM_POD, arp_out(skb));
	default:
		return conclude(skb, DIRECTION_FROM_POD, VERDICT_ETHERTYPE);
	}
}

/* What the stack gives to a pod: what isn't IP is between the node and the pod alone. */
SEC("tc")
int tortie_pod_in(struct __sk_buff *skb)
{
	enum verdict verdict = VERDICT_PASSED;
	__u32 length = skb->len;

	if (skb->protocol == bpf_htons(ETH_P_IP)) {
		if (known_in4(skb) != GO_ON)
			return TC_ACT_UNSPEC;
		verdict = admit_in4(skb);
	} else if (skb->protocol == bpf_htons(ETH_P_IPV6)) {
		if (pod_config.ipv6_enabled && known_in6(skb) != GO_ON)
			return TC_ACT_UNSPEC;
		verdict = pod_config.ipv6_enabled ? admit_in6(skb) : VERDICT_IPV6_DISABLED;
	}
	count_on(skb->ifindex, length, DIRECTION_TO_POD, verdict);
	return verdict == VERDICT_PASSED ? TC_ACT_UNSPEC : TC_ACT_SHOT;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
