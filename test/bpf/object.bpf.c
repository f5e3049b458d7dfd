// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* Maps of several kinds, a setting, and two programs that use them: for tests of how objects are loaded. */
#include "../../bpf/maps.h"
#include "../../bpf/counters.h"

SEC("tc")
int tortie_from_pod(struct __sk_buff *skb)
{
	struct source_key key = {.prefix_len = SOURCE_KEY_FIXED_BITS, .ifindex = skb->ifindex};

	if (!device_announced(skb->ifindex))
		return conclude(skb, DIRECTION_FROM_POD, VERDICT_NOT_ANNOUNCED);
	return conclude(skb, DIRECTION_FROM_POD,
			source_allowed(&key) ? VERDICT_PASSED : VERDICT_SPOOFED_SOURCE);
}

SEC("tc")
int tortie_to_pod(struct __sk_buff *skb)
{
	return conclude(skb, DIRECTION_TO_POD,
			pod_config.ipv6_enabled && device_announced(skb->ifindex) ? VERDICT_PASSED
										  : VERDICT_NOT_ANNOUNCED);
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
