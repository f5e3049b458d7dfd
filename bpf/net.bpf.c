// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Both directions of an uplink, behind the filters of attach.bpf.c: docs/design/ebpf-net.md.
 */
#include "consts.h"
#include "maps.h"
#include "counters.h"
#include "endpoint-maps.h"
#include "jump.h"

/* What comes in: for pods of this node past the stack, answers of Services to the node. */
SEC("tc")
int tortie_net_in(struct __sk_buff *skb)
{
	return TC_ACT_UNSPEC;
}

/* What goes out: what the node asks of Services. Everything else is host endpoints'. */
SEC("tc")
int tortie_net_out(struct __sk_buff *skb)
{
	bpf_tail_call(skb, &tortie_jump, JUMP_HOST_OUT);
	return TC_ACT_UNSPEC;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
