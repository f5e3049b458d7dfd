// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* The maps of flows, endpoints and services, for tests of their control side. */
#include "../../bpf/endpoint-maps.h"
#include "../../bpf/sweep-context.h"
#define FAMILY 4
#include "../../bpf/flow-maps.h"
#include "../../bpf/service-maps.h"
#undef FAMILY
#define FAMILY 6
#include "../../bpf/flow-maps.h"
#include "../../bpf/service-maps.h"
#undef FAMILY

/* What the ring buffer's records are. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct flow_event);
} event_shape SEC(".maps");

/* What the sweep is told. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct sweep_context);
} sweep_shape SEC(".maps");

/* An enum gets into BTF by being a parameter. */
__noinline int note(enum flow_flag flag)
{
	return (int)flag;
}

SEC("tc")
int tortie_flow_test(struct __sk_buff *skb)
{
	return note(FLOW_FLAG_MARKED);
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
