/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What is remembered of flows: docs/design/ebpf-flows.md says what it means, how it is read and written. For
 * one family (see family.h).
 */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include "consts.h"
#include "family.h"

#ifndef TORTIE_FLOW_MAPS_H
#define TORTIE_FLOW_MAPS_H

#define flow_key OF_FAMILY(flow_key)
#define flow_end OF_FAMILY(flow_end)
#define flow_record OF_FAMILY(flow_record)
#define fragment_key OF_FAMILY(fragment_key)

/* The low half of a record's state. */
enum flow_flag {
	/* The opener's egress was judged on this node and allowed; the other end's ingress. */
	FLOW_FLAG_EGRESS_OK = 1 << 0,
	FLOW_FLAG_INGRESS_OK = 1 << 1,
	/* The opener is end 1 of the key, not end 0. */
	FLOW_FLAG_OPENER_1 = 1 << 2,
	/* The other end has sent something. */
	FLOW_FLAG_ANSWERED = 1 << 3,
	/* TCP: the opener has answered the answer, so both ends are who they say. */
	FLOW_FLAG_ESTABLISHED = 1 << 4,
	FLOW_FLAG_FIN_OPENER = 1 << 5,
	FLOW_FLAG_FIN_OTHER = 1 << 6,
	/* TCP: it has sent a RST, and nothing since: an end that goes on has not, whoever sent it. */
	FLOW_FLAG_RESET_OPENER = 1 << 7,
	/* Its packets go through the node's stack in both directions. */
	FLOW_FLAG_VIA_STACK = 1 << 8,
	/* The destination was translated: `before` is what the opener asked for. */
	FLOW_FLAG_DESTINATION = 1 << 9,
	/* The source was translated: `source_before` is the opener's own. */
	FLOW_FLAG_SOURCE = 1 << 10,
	/* Not a record: `before` and `source_before` are the ends of the record's key, opener last. */
	FLOW_FLAG_POINTER = 1 << 11,
	/* Expired at the last sweep. */
	FLOW_FLAG_MARKED = 1 << 12,
	/* Unanswered UDP that is kept as if it were. */
	FLOW_FLAG_ONE_WAY = 1 << 13,
	/* The node itself opened it. */
	FLOW_FLAG_OF_HOST = 1 << 14,
	/* Taken over from the other dataplane. */
	FLOW_FLAG_ADOPTED = 1 << 15,
	/* As the node's own: a host endpoint's policy let the opener's packets out, let them in. */
	FLOW_FLAG_HOST_EGRESS = 1 << 16,
	FLOW_FLAG_HOST_INGRESS = 1 << 17,
	/* Host endpoints' policy for what is forwarded let it pass. */
	FLOW_FLAG_FORWARD_OK = 1 << 18,
	/* preDNAT policy allowed it. */
	FLOW_FLAG_PRE_ACCEPTED = 1 << 19,
	/* Its other end is not of this node, and its packets go past the stack in both directions, by
	   uplinks. */
	FLOW_FLAG_BY_NET = 1 << 20,
	/* As RESET_OPENER, of the other end. */
	FLOW_FLAG_RESET_OTHER = 1 << 21,
};

/* Hashes that the answered flows of a family are spread over. */
#define FLOW_SHARDS 4

/*
 * How long TCP that was never promoted counts without a packet, if it isn't translated: nf_conntrack's time
 * of a SYN, after which nobody repeats one, or its answer.
 */
#define HANDSHAKE_SECONDS 120

/* Elements of the answered flows' hashes that unanswered flows take: of one share, or of all together. */
struct one_way_share {
	/* As far as it is known; what the sweep that is under way has met, and what has come since it began.
	 */
	__u32 now;
	__u32 next;
	/* No more are taken in from here on; 0: there is no limit. */
	__u32 limit;
};

/* Shares of opener's addresses. */
#define ONE_WAY_SHARES 4096

#endif

#if (FAMILY == 4 && !defined(TORTIE_FLOW_MAPS4_H)) || (FAMILY == 6 && !defined(TORTIE_FLOW_MAPS6_H))
#if FAMILY == 4
#define TORTIE_FLOW_MAPS4_H
#else
#define TORTIE_FLOW_MAPS6_H
#endif

/* Addresses in network byte order, ports in the machine's. */
struct flow_end {
	__u8 address[ADDRESS_BYTES];
	__u16 port;
	__u16 _reserved;
};

/* End 0 is the smaller one. */
struct flow_key {
	struct flow_end end[2];
	__u8 protocol;
	__u8 _reserved[3];
};

struct flow_record {
	struct flow_key key;
	struct flow_end before;
	struct flow_end source_before;
	/* ns of CLOCK_MONOTONIC, coarse: made, and last packet of either direction. */
	__u64 created;
	__u64 last_seen;
	/* Of the opener, of the other end; with the Ethernet header. Plain counts, which a race may lose. */
	__u64 packets[2];
	__u64 bytes[2];
	/* Of the pods at its ends, if they are of this node; 0: not known. Never believed by itself: whoever
	 * uses one asks the slot whose address it has. */
	__u32 slot[2];
	/* cookie << 32 | enum flow_flag */
	__u64 state;
	/* No bytes: it makes the flags' names part of the map's types, so that a later layout can read them.
	 */
	enum flow_flag _names[0];
};

/* The packet that a fragment is of. */
struct fragment_key {
	__u8 source[ADDRESS_BYTES];
	__u8 destination[ADDRESS_BYTES];
	/* As on the wire. */
	__u32 id;
	/* IPv6: 0, the fragment header of a later one doesn't always say it. */
	__u8 protocol;
	__u8 _reserved[3];
};

/* Its ports, and the protocol of its transport header. */
#ifndef TORTIE_FRAGMENT_PORTS
#define TORTIE_FRAGMENT_PORTS
struct fragment_ports {
	__u16 source_port;
	__u16 destination_port;
	__u8 protocol;
	__u8 _reserved[3];
};
#endif

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 65536);
	__type(key, struct flow_key);
	__type(value, struct flow_record);
} OF_FAMILY(tortie_new) SEC(".maps");

#define FLOW_SHARD(letter)                                                                                   \
	struct {                                                                                             \
		__uint(type, BPF_MAP_TYPE_HASH);                                                             \
		__uint(map_flags, BPF_F_NO_PREALLOC);                                                        \
		__uint(max_entries, 131072);                                                                 \
		__type(key, struct flow_key);                                                                \
		__type(value, struct flow_record);                                                           \
	} OF_SHARD(letter) SEC(".maps")
#undef OF_SHARD
#if FAMILY == 4
#define OF_SHARD(letter) tortie_flow4##letter
#else
#define OF_SHARD(letter) tortie_flow6##letter
#endif
FLOW_SHARD(a);
FLOW_SHARD(b);
FLOW_SHARD(c);
FLOW_SHARD(d);
#undef FLOW_SHARD

/* See one-way.h: the total, then the shares. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1 + ONE_WAY_SHARES);
	__type(key, __u32);
	__type(value, struct one_way_share);
} OF_FAMILY(tortie_oneway) SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 8192);
	__type(key, struct fragment_key);
	__type(value, struct fragment_ports);
} OF_FAMILY(tortie_frag) SEC(".maps");

#endif
