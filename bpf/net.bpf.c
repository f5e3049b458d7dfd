// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Both directions of an uplink, behind the filters of attach.bpf.c: docs/design/ebpf-net.md.
 */
#include "consts.h"
#include "maps.h"
#include "counters.h"
#include "endpoint-maps.h"
#include "jump.h"

#define FAMILY 4
#include "net-in.h"
#include "net-out.h"
#include "established-net.h"
#undef FAMILY
#define FAMILY 6
#include "net-in.h"
#include "net-out.h"
#include "established-net.h"
#undef FAMILY

/* linux/if_packet.h */
#define PACKET_HOST 0
#define VLAN_ID 0x0fff

/* What comes in: for pods of this node past the stack, answers of Services to the node. */
SEC("tc")
int tortie_net_in(struct __sk_buff *skb)
{
	const struct host_slot *uplink;
	__u32 shared;
	int action;

	if (was_given(skb))
		return TC_ACT_UNSPEC;
	/* Nobody brings along that it was judged, or sent by the node. */
	skb->mark &= ~(pod_config.mark_seen | pod_config.mark_host);
	uplink = uplink_at(skb->ifindex);
	if (skb->pkt_type != PACKET_HOST || !uplink)
		return TC_ACT_UNSPEC;
	shared = is_shared(uplink);
	/* VLAN 0 is none, but a priority: the stack takes such a tag off, too. */
	if (skb->vlan_present && (skb->vlan_tci & VLAN_ID || bpf_skb_vlan_pop(skb) || skb->vlan_present))
		return TC_ACT_UNSPEC;
	if (skb->protocol == bpf_htons(ETH_P_IP)) {
		action = known_net_in4(skb, shared);
		if (action == GO_ON)
			return dispatch_net_in4(skb, packet_net_in4(skb));
	} else if (skb->protocol == bpf_htons(ETH_P_IPV6) && pod_config.ipv6_enabled) {
		action = known_net_in6(skb, shared);
		if (action == GO_ON)
			return dispatch_net_in6(skb, packet_net_in6(skb));
	} else {
		return TC_ACT_UNSPEC;
	}
	return action == NOT_OURS ? TC_ACT_UNSPEC : action;
}

/* Whether the node itself sends the packet: a tunnel's has the device of what it carries, but is marked. */
static __always_inline int is_own(const struct __sk_buff *skb)
{
	return !skb->ingress_ifindex ||
	       (pod_config.mark_host && (skb->mark & pod_config.mark_host) == pod_config.mark_host);
}

/* Whether a pod's program has given it to the stack. */
static __always_inline int is_of_stack(const struct __sk_buff *skb)
{
	return pod_config.mark_seen && (skb->mark & pod_config.mark_seen) == pod_config.mark_seen &&
	       skb->tc_index != PAST_STACK;
}

/* What goes out: what the node asks of Services. Everything else is host endpoints'. */
SEC("tc")
int tortie_net_out(struct __sk_buff *skb)
{
	int action = NOT_OURS;

	if (is_own(skb) && !skb->vlan_present && uplink_at(skb->ifindex)) {
		if (skb->protocol == bpf_htons(ETH_P_IP)) {
			action = known_net_out4(skb);
			if (action == GO_ON)
				action = dispatch_net_out4(skb, packet_net_out4(skb));
		} else if (skb->protocol == bpf_htons(ETH_P_IPV6) && pod_config.ipv6_enabled) {
			action = known_net_out6(skb);
			if (action == GO_ON)
				action = dispatch_net_out6(skb, packet_net_out6(skb));
		}
	} else if (is_of_stack(skb) && !skb->vlan_present) {
		if (skb->protocol == bpf_htons(ETH_P_IP))
			note_translated4(skb);
		else if (skb->protocol == bpf_htons(ETH_P_IPV6) && pod_config.ipv6_enabled)
			note_translated6(skb);
	}
	if (action != NOT_OURS && action != GO_ON)
		return action;
	bpf_tail_call(skb, &tortie_jump, JUMP_HOST_OUT);
	return TC_ACT_UNSPEC;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
