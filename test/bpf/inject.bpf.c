// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Sends a frame as it is out of a device, whatever it contains: run by BPF_PROG_TEST_RUN in the device's
 * namespace. The kernel refuses test runs of IP frames that are shorter than their header, so the frame comes
 * under an experimental Ethernet type and gets its own (skb->cb[1], host order) here. cb[0] is the device;
 * cb[2], if set, a VLAN to tag with.
 */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>

SEC("tc")
int inject(struct __sk_buff *skb)
{
	__be16 protocol = bpf_htons(skb->cb[1]);
	__u32 device = skb->cb[0];

	if (bpf_skb_store_bytes(skb, 12, &protocol, sizeof(protocol), 0))
		return -1;
	if (skb->cb[2] && bpf_skb_vlan_push(skb, bpf_htons(0x8100), skb->cb[2]))
		return -2;
	return bpf_clone_redirect(skb, device, 0);
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
