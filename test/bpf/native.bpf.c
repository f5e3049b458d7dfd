// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* What the tests of native/bpf-*.ts need: maps of each kind, and programs of each kind that say what they
 * saw. */
#include <linux/bpf.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#define MAP(kind, size, key_type, value_type, flag_bits, name)                                               \
	struct {                                                                                             \
		__uint(type, kind);                                                                          \
		__uint(max_entries, size);                                                                   \
		__uint(map_flags, flag_bits);                                                                \
		__type(key, key_type);                                                                       \
		__type(value, value_type);                                                                   \
	} name SEC(".maps")

struct prefix {
	__u32 bits;
	__u32 address;
};

/* 12 bytes: not a multiple of the 8 that an array's values are apart. */
struct triple {
	__u32 a, b, c;
};

MAP(BPF_MAP_TYPE_HASH, 8192, __u32, __u64, 0, hash);
MAP(BPF_MAP_TYPE_LRU_HASH, 8192, __u32, __u64, 0, lru);
MAP(BPF_MAP_TYPE_PERCPU_HASH, 8192, __u32, __u64, 0, per_cpu);
MAP(BPF_MAP_TYPE_LPM_TRIE, 8192, struct prefix, __u64, BPF_F_NO_PREALLOC, trie);
MAP(BPF_MAP_TYPE_ARRAY, 8192, __u32, __u64, 0, plain);
MAP(BPF_MAP_TYPE_DEVMAP_HASH, 64, __u32, __u32, 0, devices);
MAP(BPF_MAP_TYPE_ARRAY, 1000, __u32, struct triple, BPF_F_MMAPABLE, shared);

/* Returns shared[0].b: what a program sees of a mapped array. */
SEC("tc")
int read_shared(struct __sk_buff *skb)
{
	__u32 first = 0;
	struct triple *value = bpf_map_lookup_elem(&shared, &first);

	return value ? (int)value->b : -1;
}

static long spin(__u32 index, void *context)
{
	*(__u64 *)context += bpf_get_prandom_u32();
	return 0;
}

/* shared[1]: a when it starts, b when it ends, some hundred milliseconds later (c rounds). */
SEC("tc")
int runs_long(struct __sk_buff *skb)
{
	__u32 second = 1, rounds;
	__u64 sum = 0;
	struct triple *value = bpf_map_lookup_elem(&shared, &second);

	if (!value)
		return -1;
	rounds = value->c;
	*(volatile __u32 *)&value->a = 1;
	bpf_loop(rounds, spin, &sum, 0);
	*(volatile __u32 *)&value->b = 1;
	return sum == 1;
}

struct sum {
	__u32 a, b;
	__u64 result;
};

SEC("syscall")
int add(struct sum *context)
{
	context->result = (__u64)context->a + context->b;
	return 7;
}

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 20);
} ring SEC(".maps");

struct emission {
	struct triple *wish;
	__u32 next;
};

static long emit_one(__u32 index, void *context)
{
	struct emission *emission = context;
	__u32 size = emission->wish->c & 255;
	__u32 record[64] = {};

	record[0] = emission->next++;
	if (size < 4 || bpf_ringbuf_output(&ring, record, size, 0))
		emission->wish->b++;
	return 0;
}

/* shared[2]: makes a records of c bytes, which start with their number; b counts those for which there was no
 * room. */
SEC("tc")
int emit(struct __sk_buff *skb)
{
	__u32 third = 2;
	struct emission emission = {bpf_map_lookup_elem(&shared, &third), 0};

	if (!emission.wish)
		return -1;
	bpf_loop(emission.wish->a, emit_one, &emission, 0);
	return 0;
}

static int note(__u32 index, int verdict)
{
	struct triple *value = bpf_map_lookup_elem(&shared, &index);

	if (value)
		__sync_fetch_and_add(&value->a, 1);
	return verdict;
}

/* Count what they see in shared[10], [11], [12]; -1: the next program's turn. */
SEC("tc")
int first_of_tc(struct __sk_buff *skb)
{
	return note(10, -1);
}

SEC("tc")
int second_of_tc(struct __sk_buff *skb)
{
	return note(11, -1);
}

SEC("tc")
int drops(struct __sk_buff *skb)
{
	return note(12, 2);
}

SEC("xdp")
int passes(struct xdp_md *packet)
{
	return note(13, XDP_PASS);
}

SEC("xdp")
int passes_too(struct xdp_md *packet)
{
	return note(14, XDP_PASS);
}

/* Out of the device by which it came. */
SEC("xdp")
int sends_back(struct xdp_md *packet)
{
	return XDP_TX;
}

SEC("cgroup/connect4")
int forbids(struct bpf_sock_addr *address)
{
	return note(15, 0);
}

SEC("cgroup/connect4")
int allows(struct bpf_sock_addr *address)
{
	return note(16, 1);
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
