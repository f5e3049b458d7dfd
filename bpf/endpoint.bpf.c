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
#include "classify.h"
#include "flow-maps.h"
#include "service-maps.h"
#undef FAMILY
#define FAMILY 6
#include "classify.h"
#include "flow-maps.h"
#include "service-maps.h"
#undef FAMILY

static __always_inline enum verdict judge_from_pod(struct __sk_buff *skb)
{
	struct cursor cursor = {.skb = skb};
	__u32 ifindex = skb->ifindex;
	const struct eth_header *eth;

	/* The kernel took a VLAN tag out of the frame before we see it. */
	if (skb->vlan_present)
		return VERDICT_ETHERTYPE;
	eth = cursor_take(&cursor, sizeof(*eth));
	if (!eth)
		return VERDICT_TRUNCATED;
	if (eth->protocol == bpf_htons(ETH_P_IP))
		return judge_ipv4(&cursor, ifindex);
	if (eth->protocol == bpf_htons(ETH_P_IPV6))
		return pod_config.ipv6_enabled ? judge_ipv6(&cursor, ifindex) : VERDICT_IPV6_DISABLED;
	if (eth->protocol == bpf_htons(ETH_P_ARP))
		return judge_arp(&cursor, ifindex);
	return VERDICT_ETHERTYPE;
}

static __always_inline enum verdict judge_to_pod(struct __sk_buff *skb)
{
	if (skb->protocol == bpf_htons(ETH_P_IPV6) && !pod_config.ipv6_enabled)
		return VERDICT_IPV6_DISABLED;
	return VERDICT_PASSED;
}

SEC("tc")
int tortie_pod_out(struct __sk_buff *skb)
{
	return conclude(skb, DIRECTION_FROM_POD, judge_from_pod(skb));
}

SEC("tc")
int tortie_pod_in(struct __sk_buff *skb)
{
	return conclude(skb, DIRECTION_TO_POD, judge_to_pod(skb));
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
