/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Numbers and names that more than one header needs. The enums travel into TypeScript through BTF. */
#ifndef TORTIE_CONSTS_H
#define TORTIE_CONSTS_H

#include <linux/types.h>

/* Which way a packet goes, seen from the pod; at a host endpoint: seen from the node. */
enum direction {
	DIRECTION_FROM_POD,
	DIRECTION_TO_POD,
	DIRECTION__COUNT,
};

/*
 * What becomes of a packet: it passed, or why it was dropped. The only list of drop reasons. Numbers live in
 * pinned counters: they are never reused, a reason that is no longer needed keeps its place.
 */
enum verdict {
	VERDICT_PASSED = 0,
	/* The agent has not (or no longer) said what the device is for. */
	VERDICT_NOT_ANNOUNCED = 1,
	/* The packet ends inside a header, or is shorter than its header says. */
	VERDICT_TRUNCATED = 2,
	/* A header contradicts itself: wrong version, impossible header length, ARP that isn't IPv4 over
	   Ethernet. */
	VERDICT_MALFORMED = 3,
	/* Neither IPv4, IPv6 nor ARP, or VLAN-tagged. */
	VERDICT_ETHERTYPE = 4,
	/* IPv4 or IPv6 from an address the endpoint does not have. */
	VERDICT_SPOOFED_SOURCE = 5,
	/* ARP in the name of an address the endpoint does not have. */
	VERDICT_SPOOFED_ARP = 6,
	/* IPv6 while the node's configuration says there is none. */
	VERDICT_IPV6_DISABLED = 7,
	/* A fragment that would overwrite the transport header of the first one (RFC 1858, 3128), or end
	   beyond what a packet can be. */
	VERDICT_BAD_FRAGMENT = 8,
	/* IPv6 extension headers: too many, or in an order that nobody may send. */
	VERDICT_EXTENSIONS = 9,
	/* The agent is between two builds: the programs behind the filter aren't there. */
	VERDICT_NOT_LOADED = 10,
	/* Policy refuses the flow. */
	VERDICT_POLICY = 11,
	/* The flow was answered, and there is no room to remember that. */
	VERDICT_CONNTRACK_FULL = 12,
	/* TCP to a Service's address, in the midst of a flow of which nothing is known. */
	VERDICT_MID_FLOW = 13,
	/* A Service without a backend. */
	VERDICT_NO_BACKEND = 14,
	/* A fragment whose first one was not seen, or that goes where fragments can't be translated to. */
	VERDICT_FRAGMENT = 15,
	/* An ICMP error about a packet of no flow. */
	VERDICT_UNRELATED_ICMP = 16,
	/* SCTP to a Service whose backends have another port: its checksum can't be made anew. */
	VERDICT_SCTP_PORT = 17,
	/* It may not be forwarded once more. */
	VERDICT_HOP_LIMIT = 18,
	/* The frame is addressed to another host's MAC. */
	VERDICT_OTHER_HOST = 19,
	/* The packet could not be changed: it is not what its headers say, or memory ran out. */
	VERDICT_REWRITE = 20,
	/* VXLAN or IP in IP, which pods may not send. */
	VERDICT_ENCAPSULATION = 21,
	VERDICT__COUNT,
};

/* Room in a counter record: adding a verdict must not change the shape of a pinned map. */
#define VERDICT_SLOTS 32

_Static_assert(VERDICT__COUNT <= VERDICT_SLOTS, "more slots need a new layout version");

/* What a filter goes on with: places in tortie_jump. */
enum jump {
	JUMP_POD_OUT,
	JUMP_POD_IN,
	/* From the net, and to it: devices with a host endpoint. */
	JUMP_HOST_IN,
	JUMP_HOST_OUT,
	/* From the net to this node's pods past the stack; Services that the node itself asks for: uplinks.
	 */
	JUMP_NET_IN,
	JUMP_NET_OUT,
	JUMP__COUNT,
};

/* Address families as keys spell them. */
enum family {
	FAMILY_IPV4 = 4,
	FAMILY_IPV6 = 6,
};

/* linux/if_ether.h has these, but pulls in libc's headers on some systems. */
#define ETH_P_IP 0x0800
#define ETH_P_ARP 0x0806
#define ETH_P_IPV6 0x86DD
#define ETH_HLEN 14
#define ETH_P_8021Q 0x8100
#define ETH_P_8021AD 0x88A8

/* linux/in.h has these, but the same is true of it. */
#define PROTOCOL_HOPOPTS 0
#define PROTOCOL_ICMP 1
#define PROTOCOL_IPIP 4
#define PROTOCOL_TCP 6
#define PROTOCOL_UDP 17
#define PROTOCOL_ROUTING 43
#define PROTOCOL_FRAGMENT 44
#define PROTOCOL_AH 51
#define PROTOCOL_ICMPV6 58
#define PROTOCOL_DSTOPTS 60
#define PROTOCOL_SCTP 132

#define TC_ACT_UNSPEC (-1)
#define TC_ACT_SHOT 2

#endif
