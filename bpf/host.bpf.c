// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Both directions of a device with a host endpoint, behind the filters of attach.bpf.c:
 * docs/design/ebpf-hosts.md.
 */
#include "consts.h"
#include "maps.h"
#include "endpoint-maps.h"

#define FAMILY 4
#include "host-maps.h"
#undef FAMILY
#define FAMILY 6
#include "host-maps.h"
#undef FAMILY

/* What comes in. */
SEC("tc")
int tortie_host_in(struct __sk_buff *skb)
{
	return TC_ACT_UNSPEC;
}

/* What goes out. */
SEC("tc")
int tortie_host_out(struct __sk_buff *skb)
{
	return TC_ACT_UNSPEC;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
