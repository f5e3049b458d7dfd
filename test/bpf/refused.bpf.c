// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* A program that every verifier refuses: it reads the packet without having looked where it ends. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

SEC("tc")
int fine(struct __sk_buff *skb)
{
	return 0;
}

SEC("tc")
int reads_beyond_the_end(struct __sk_buff *skb)
{
	return *(__u8 *)(long)skb->data;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
