// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Many packets that all are of another flow, by one BPF_PROG_TEST_RUN with `repeat`: each run writes the
 * frame of its step over the one that the run before left, counts two of its fields on, and jumps to the
 * program that is to handle it.
 */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>

#define FRAME_BYTES 128
#define STEPS 3

struct flood_step {
	/* Bytes of the frame. */
	__u32 length;
	/* Where the flow's number stands in the frame: its low 16 bits, the next 16. */
	__u32 low_at;
	__u32 high_at;
	__u8 frame[FRAME_BYTES];
};

struct flood {
	/* Packets so far: flow `next / steps`, step `next % steps`. */
	__u32 next;
	__u32 steps;
	struct flood_step step[STEPS];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct flood);
} floods SEC(".maps");

/* Who handles a step's packets. */
struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, STEPS);
	__type(key, __u32);
	__type(value, __u32);
} handlers SEC(".maps");

static __always_inline long store_number(struct __sk_buff *skb, __u32 at, __u32 number)
{
	__be16 wire = bpf_htons(number);

	return bpf_skb_store_bytes(skb, at, &wire, sizeof(wire), 0);
}

/* Returns -1 where it could not do its part: the handler's verdicts are none of these. */
SEC("tc")
int flood(struct __sk_buff *skb)
{
	__u32 key = 0, number, step, length;
	struct flood *flood = bpf_map_lookup_elem(&floods, &key);
	struct flood_step *now;

	if (!flood || !flood->steps)
		return -1;
	number = flood->next++;
	step = number % flood->steps;
	number /= flood->steps;
	if (step >= STEPS)
		return -1;
	now = &flood->step[step];
	length = now->length;
	if (length < 1 || length > FRAME_BYTES || bpf_skb_store_bytes(skb, 0, now->frame, length, 0))
		return -1;
	if (store_number(skb, now->low_at, number) || store_number(skb, now->high_at, number >> 16))
		return -1;
	/* As a packet that comes; the run before may have left its own. */
	skb->mark = 0;
	bpf_tail_call(skb, &handlers, step);
	return -1;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
