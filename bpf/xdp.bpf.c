// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * What untracked policy of a host endpoint refuses is dropped before the kernel has made a packet of it:
 * docs/design/ebpf-hosts.md. All else, and whatever this can't tell, is for tortie_host_in, which asks again:
 * nothing depends on this program being there.
 */
#define OF_FRAME
#include "consts.h"
#include "maps.h"
#include "counters.h"
#include "endpoint-maps.h"

#define FAMILY 4
#include "xdp.h"
#undef FAMILY
#define FAMILY 6
#include "xdp.h"
#undef FAMILY

/*
 * Whether the frame is for this device; those for all are. None that has the device's own address for a
 * source: a program has given it to the uplink (uplink.h), where generic XDP sees it. Who pretends to that is
 * refused a step later.
 */
static __always_inline int is_for(const struct eth_header *link, __u32 slot)
{
	const struct host_slot *host = bpf_map_lookup_elem(&tortie_hosts, &slot);

	return host && __builtin_memcmp(link->source, host->mac, sizeof(host->mac)) &&
	       (link->destination[0] & 1 ||
		__builtin_memcmp(link->destination, host->mac, sizeof(host->mac)) == 0);
}

/* With frags: devices whose frames are larger than a page take no others. */
SEC("xdp.frags")
int tortie_xdp_in(struct xdp_md *frame)
{
	__u32 ifindex = frame->ingress_ifindex, slot = host_slot_of(ifindex);
	struct eth_header link;
	int refused = 0;

	if (!slot || bpf_xdp_load_bytes(frame, 0, &link, sizeof(link)) || !is_for(&link, slot))
		return XDP_PASS;
	/* What has a tag is for the device of its VLAN, mostly. */
	if (link.protocol == bpf_htons(ETH_P_IP))
		refused = is_refused4(frame, slot);
	else if (link.protocol == bpf_htons(ETH_P_IPV6) && pod_config.ipv6_enabled)
		refused = is_refused6(frame, slot);
	if (!refused)
		return XDP_PASS;
	count_on(ifindex, bpf_xdp_get_buff_len(frame), DIRECTION_TO_POD, VERDICT_POLICY);
	return XDP_DROP;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
