// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* Somebody else's filter: counts what it sees and leaves it to the next one. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} seen SEC(".maps");

SEC("tc")
int count(struct __sk_buff *skb)
{
	__u32 first = 0;
	__u64 *packets = bpf_map_lookup_elem(&seen, &first);

	if (packets)
		__sync_fetch_and_add(packets, 1);
	return -1;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
