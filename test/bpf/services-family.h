/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Services asked for, one family at a time: services.bpf.c. */
#include <linux/pkt_cls.h>
#include "../../bpf/service.h"

#define ask_services OF_FAMILY(ask_services)
#define ask_slowly OF_FAMILY(ask_slowly)

#ifndef TORTIE_SERVICES_FAMILY_H
#define TORTIE_SERVICES_FAMILY_H

#define QUESTIONS 64
#define SERVICE_PORT 80
#define BACKEND_PORT 1000

/* What was answered. */
struct answers {
	/* By enum service_answer. */
	__u64 of[5];
	/* Backends of another service. */
	__u64 foreign;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct answers);
} answers SEC(".maps");

/* Takes some time. */
static long wait_a_little(__u32 step, void *unused)
{
	return bpf_ktime_get_ns() == 0;
}

#endif

/* As find_backend, with time between frontend and backend for others to write, if they dared. */
static __always_inline int ask_slowly(const struct flow_tuple *tuple, struct backend *backend)
{
	struct frontend_key key = {.port = tuple->destination_port, .protocol = tuple->protocol};
	const struct backend *found;
	__u64 frontend = 0;
	__u32 count, index;

	__builtin_memcpy(key.address, tuple->destination, ADDRESS_BYTES);
	if (find_frontend(&key, &frontend) != FOUND_VALUE)
		return SERVICE_ANSWER_UNSTABLE;
	count = frontend & FRONTEND_COUNT_MASK;
	if (count == 0)
		return SERVICE_ANSWER_NO_BACKEND;
	bpf_loop(10000, wait_a_little, NULL, 0);
	index = (frontend >> 32) + bpf_get_prandom_u32() % count;
	found = bpf_map_lookup_elem(&OF_FAMILY(tortie_back), &index);
	if (!found)
		return SERVICE_ANSWER_NO_BACKEND;
	*backend = *found;
	return SERVICE_ANSWER_BACKEND;
}

/*
 * Asks for some of the services 10.96.0.n (fd00::n), n from 1 to cb[0], TCP port 80; slowly if cb[1] says so.
 * The backends of such a one are 10.n.x.y (fd01::n:x) with port 1000 + n.
 */
SEC("tc")
int ask_services(struct __sk_buff *skb)
{
	struct flow_tuple tuple = {.destination_port = SERVICE_PORT, .protocol = PROTOCOL_TCP};
	__u32 first = 0, services = skb->cb[0];
	struct answers *seen = bpf_map_lookup_elem(&answers, &first);

	if (!seen || services == 0)
		return TC_ACT_SHOT;
	for (int i = 0; i < QUESTIONS; i++) {
		__u8 service = 1 + bpf_get_prandom_u32() % services;
		struct backend backend = {};
		__u32 answer;

#if FAMILY == 4
		tuple.destination[0] = 10;
		tuple.destination[1] = 96;
		tuple.destination[3] = service;
#else
		tuple.destination[0] = 0xfd;
		tuple.destination[15] = service;
#endif
		answer = skb->cb[1] ? ask_slowly(&tuple, &backend) : find_backend(&tuple, &backend);
		/* The compiler sees into the function and would leave the check out; the verifier doesn't. */
		asm volatile("" : "+r"(answer));
		if (answer >= 5)
			return TC_ACT_SHOT;
		__sync_fetch_and_add(&seen->of[answer], 1);
		if (answer == SERVICE_ANSWER_BACKEND && (backend.address[FAMILY == 4 ? 1 : 13] != service ||
							 backend.port != BACKEND_PORT + service))
			__sync_fetch_and_add(&seen->foreign, 1);
	}
	return TC_ACT_OK;
}
