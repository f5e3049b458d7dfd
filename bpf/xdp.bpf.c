// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * What untracked policy of a host endpoint refuses is dropped before the kernel has made a packet of it:
 * docs/design/ebpf-hosts.md. Nothing depends on this program being there.
 */
#include "consts.h"
#include "endpoint-maps.h"

#define FAMILY 4
#include "host-maps.h"
#undef FAMILY
#define FAMILY 6
#include "host-maps.h"
#undef FAMILY

/* With frags: devices whose frames are larger than a page take no others. */
SEC("xdp.frags")
int tortie_xdp_in(struct xdp_md *frame)
{
	return XDP_PASS;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
