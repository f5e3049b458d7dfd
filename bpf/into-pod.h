/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#ifndef TORTIE_INTO_POD_H
#define TORTIE_INTO_POD_H

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

/* Into the pod behind the device, past its filter; from tc's ingress only. Returns tc's action. */
static __always_inline int redirect_into_pod(struct __sk_buff *skb, __u32 ifindex)
{
	/* Before 6.12 nothing takes the mark off on the way into the pod. */
	skb->mark = 0;
	return bpf_redirect_peer(ifindex, 0);
}

#endif
