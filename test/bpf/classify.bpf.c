// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Classifier and parser by themselves, for tests and benchmarks: they judge what they are given, and tell all
 * that came of it. Compiled once for each family.
 */
#include "../../bpf/classify.h"
#include "../../bpf/l4.h"
#include "../../bpf/parse.h"

#define judgement OF_FAMILY(judgement)
#define parsed_packet OF_FAMILY(parsed_packet)

/* A question, and its answer. */
struct judgement {
	__u32 unit;
	__u32 bytes;
	struct flow_tuple tuple;
	struct decision decision;
};

/* A packet's headers; if it is an ICMP error, those of the packet that it quotes too. */
struct parsed_packet {
	enum verdict verdict;
	enum verdict quoted_verdict;
	struct flow_headers headers;
	struct flow_headers quoted;
};

/* What became of the last packet. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct parsed_packet);
} parsed SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct judgement);
} judged SEC(".maps");

/*
 * A frame's headers, into `parsed`. The kernel refuses test runs of IP frames that are shorter than their
 * header, so a frame may come under another Ethernet type and get its own (skb->cb[0], host order) here.
 * cb[1], if set, is a VLAN to tag with.
 */
SEC("tc")
int parse_packet(struct __sk_buff *skb)
{
	__be16 protocol = bpf_htons(skb->cb[0]);
	struct flow_headers headers = {};
	struct parsed_packet *packet;
	__u32 first = 0, l3_offset;

	if (protocol && bpf_skb_store_bytes(skb, ETH_HLEN - 2, &protocol, sizeof(protocol), 0))
		return TC_ACT_SHOT;
	if (skb->cb[1] && bpf_skb_vlan_push(skb, bpf_htons(ETH_P_8021Q), skb->cb[1]))
		return TC_ACT_SHOT;
	packet = bpf_map_lookup_elem(&parsed, &first);
	if (!packet)
		return TC_ACT_SHOT;
	__builtin_memset(packet, 0, sizeof(*packet));
	packet->verdict = find_network(skb, &l3_offset);
	if (packet->verdict == VERDICT_PASSED)
		packet->verdict = parse_headers(skb, l3_offset, 0, &headers);
	packet->headers = headers;
	if (packet->verdict == VERDICT_PASSED && headers.is_error) {
		packet->quoted_verdict =
		    parse_headers(skb, headers.l4_offset + ICMP_HEADER, headers.end, &headers);
		packet->quoted = headers;
	}
	return packet->verdict == VERDICT_PASSED ? TC_ACT_UNSPEC : TC_ACT_SHOT;
}

/* A frame, by the unit in its mark; the answer in `judged`. What a first packet of a flow costs. */
SEC("tc")
int judge_packet(struct __sk_buff *skb)
{
	struct judgement judgement = {.unit = skb->mark, .bytes = skb->len};
	struct flow_headers headers = {};
	struct judgement *answer;
	__u32 first = 0, l3_offset;

	if (find_network(skb, &l3_offset) != VERDICT_PASSED ||
	    parse_headers(skb, l3_offset, 0, &headers) != VERDICT_PASSED)
		return TC_ACT_SHOT;
	judgement.tuple = headers.tuple;
	classify(judgement.unit, &judgement.tuple, judgement.bytes, &judgement.decision);
	answer = bpf_map_lookup_elem(&judged, &first);
	if (answer)
		*answer = judgement;
	return judgement.decision.action == RULE_ACTION_ALLOW ? TC_ACT_UNSPEC : TC_ACT_SHOT;
}

/*
 * A question as the payload of a frame of no protocol, in which the answer comes back. (A `syscall` program
 * would be nicer, but those may sleep, and may not use LPM tries then.)
 */
SEC("tc")
int judge(struct __sk_buff *skb)
{
	struct judgement judgement;

	if (bpf_skb_load_bytes(skb, ETH_HLEN, &judgement, sizeof(judgement)))
		return TC_ACT_SHOT;
	__builtin_memset(&judgement.decision, 0, sizeof(judgement.decision));
	classify(judgement.unit, &judgement.tuple, judgement.bytes, &judgement.decision);
	bpf_skb_store_bytes(skb, ETH_HLEN, &judgement, sizeof(judgement), 0);
	return judgement.decision.action == RULE_ACTION_ALLOW ? TC_ACT_UNSPEC : TC_ACT_SHOT;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
