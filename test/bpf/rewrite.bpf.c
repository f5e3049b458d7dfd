// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * What programs do to packets, by itself: a frame and what is wanted of it go in, a frame comes out. Beside
 * that translate_flow, a filter for real devices that is a Service with one backend.
 */
#define FAMILY 4
#include "rewrite-family.h"
#undef FAMILY
#define FAMILY 6
#include "rewrite-family.h"
#undef FAMILY

/* Whether a frame fits the device cb[0]: fits << 16 | MTU. */
SEC("tc")
int fits(struct __sk_buff *skb)
{
	__u32 mtu;
	int fits = fits_device(skb, skb->cb[0], &mtu);

	return fits << 16 | mtu;
}

/* Packets that were many in one, and were too long for their own device; and were not. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 2);
	__type(key, __u32);
	__type(value, __u64);
} many_in_one SEC(".maps");

SEC("tc")
int translate_flow(struct __sk_buff *skb)
{
	int verdict;

	if (skb->gso_size) {
		__u32 mtu, fits = fits_device(skb, skb->ifindex, &mtu);
		__u64 *seen = bpf_map_lookup_elem(&many_in_one, &fits);

		if (seen)
			__sync_fetch_and_add(seen, 1);
	}
	if (skb->protocol == bpf_htons(ETH_P_IP))
		verdict = translate_of_family4(skb);
	else if (skb->protocol == bpf_htons(ETH_P_IPV6))
		verdict = translate_of_family6(skb);
	else
		return TC_ACT_UNSPEC;
	if (verdict == 1000)
		return send_back(skb);
	return verdict <= 0 ? TC_ACT_UNSPEC : TC_ACT_SHOT;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
