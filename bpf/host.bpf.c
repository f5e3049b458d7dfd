// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Both directions of a device with a host endpoint, behind the filters of attach.bpf.c:
 * docs/design/ebpf-hosts.md.
 */
#include "consts.h"
#include "maps.h"
#include "counters.h"
#include "endpoint-maps.h"
#include "jump.h"

#define FAMILY 4
#include "host.h"
#undef FAMILY
#define FAMILY 6
#include "host.h"
#undef FAMILY
#include "uplink.h"

/* linux/if_packet.h */
#define PACKET_OTHERHOST 3
#define VLAN_ID 0x0fff

/* Whether the frame, which has a tag or two, is for a device of that VLAN, which has a host endpoint of its
 * own or none. VLAN 0 is no VLAN: what has that tag is for this device, as is what has it twice. */
static __always_inline int is_of_vlan(const struct __sk_buff *skb)
{
	__be16 tag;

	if (skb->vlan_present && skb->vlan_tci & VLAN_ID)
		return 1;
	if (skb->protocol != bpf_htons(ETH_P_8021Q) && skb->protocol != bpf_htons(ETH_P_8021AD))
		return 0;
	return bpf_skb_load_bytes(skb, ETH_HLEN, &tag, sizeof(tag)) == 0 && bpf_ntohs(tag) & VLAN_ID;
}

/* Where the network header of the device's packets begins. */
static __always_inline __u32 network_offset(__u32 slot)
{
	const struct host_slot *host = bpf_map_lookup_elem(&tortie_hosts, &slot);

	return host && host->flags & HOST_WITHOUT_ETHERNET ? 0 : ETH_HLEN;
}

/* What the rules of netfilter are told. */
static __always_inline __u32 marks_of(__u32 untracked, __u32 not_local, __u32 pre_accepted)
{
	return (untracked ? pod_config.mark_untracked : 0) | (not_local ? pod_config.mark_not_local : 0) |
	       (pre_accepted ? pod_config.mark_pre_accepted : 0);
}

/* What no policy here refuses: the uplinks' program has a word, if it is there. */
static __always_inline int let_in(struct __sk_buff *skb)
{
	bpf_tail_call(skb, &tortie_jump, JUMP_NET_IN);
	return TC_ACT_UNSPEC;
}

/* What comes in: seen from the node, that is to the endpoint. */
SEC("tc")
int tortie_host_in(struct __sk_buff *skb)
{
	__u32 slot = host_slot_of(skb->ifindex), length = skb->len;
	enum verdict verdict = VERDICT_PASSED;
	struct packet4 *packet4;
	struct packet6 *packet6;

	if (!slot || skb->pkt_type == PACKET_OTHERHOST || is_of_vlan(skb))
		return TC_ACT_UNSPEC;
	/* A program here has made it, and who it is for is known. */
	if (was_given(skb))
		return TC_ACT_UNSPEC;
	/* Nobody brings marks of ours along. */
	skb->mark &= ~(pod_config.mark_seen | pod_config.mark_host | marks_of(1, 1, 1));
	switch (bpf_ntohs(skb->protocol)) {
	case ETH_P_IP:
		verdict = host_in4(skb, slot, network_offset(slot));
		packet4 = this_packet4();
		if (packet4)
			skb->mark |= marks_of(packet4->untracked, packet4->not_local, packet4->pre_accepted);
		break;
	case ETH_P_IPV6:
		if (!pod_config.ipv6_enabled)
			return TC_ACT_UNSPEC;
		verdict = host_in6(skb, slot, network_offset(slot));
		packet6 = this_packet6();
		if (packet6)
			skb->mark |= marks_of(packet6->untracked, packet6->not_local, packet6->pre_accepted);
		break;
	case ETH_P_8021Q:
	case ETH_P_8021AD:
		/* Two tags of no VLAN: the kernel would take both off, and nobody would judge what is behind.
		 */
		verdict = VERDICT_ETHERTYPE;
		break;
	default:
		break;
	}
	count_on(skb->ifindex, length, DIRECTION_TO_POD, verdict);
	return verdict == VERDICT_PASSED ? let_in(skb) : TC_ACT_SHOT;
}

/* What goes out. */
SEC("tc")
int tortie_host_out(struct __sk_buff *skb)
{
	__u32 slot = host_slot_of(skb->ifindex);
	enum verdict verdict = VERDICT_PASSED;

	/* What has a tag was sent by the device of its VLAN. */
	if (!slot || skb->vlan_present)
		return TC_ACT_UNSPEC;
	if (skb->protocol == bpf_htons(ETH_P_IP)) {
		verdict = host_out4(skb, slot, network_offset(slot));
	} else if (skb->protocol == bpf_htons(ETH_P_IPV6)) {
		if (!pod_config.ipv6_enabled)
			return TC_ACT_UNSPEC;
		verdict = host_out6(skb, slot, network_offset(slot));
	}
	return conclude(skb, DIRECTION_FROM_POD, verdict);
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
