/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The classifier's data: docs/design/ebpf-policy.md says what it means and in which order it is written.
 * Sizes are defaults; the loader sets the configured ones.
 */
#ifndef TORTIE_CLASSIFIER_H
#define TORTIE_CLASSIFIER_H

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include "consts.h"

/* What a rule is asked about. Their order is the rows' in a record. */
enum dimension {
	DIMENSION_SOURCE,
	DIMENSION_DESTINATION,
	/* Protocol and destination port, or ICMP type and code. */
	DIMENSION_SERVICE,
	DIMENSION_SOURCE_PORT,
	DIMENSION__COUNT,
};

/* The low 8 bits of a rule word; the other 24 are the chunk that `pass` goes on with. */
enum rule_action {
	/* No rule: a word that is read by mistake denies. */
	RULE_ACTION_NONE = 0,
	RULE_ACTION_ALLOW = 1,
	RULE_ACTION_DENY = 2,
	RULE_ACTION_PASS = 3,
	RULE_ACTION_LOG = 4,
	/* Nobody decided, and that is the answer: units of forwarded, preDNAT and untracked packets end with
	   it. */
	RULE_ACTION_UNDECIDED = 5,
};

/* Index into tortie_ports; the source's tables follow the destination's. */
enum port_table {
	PORT_TABLE_TCP,
	PORT_TABLE_UDP,
	PORT_TABLE_SCTP,
	/* type << 8 | code; IPv4 */
	PORT_TABLE_ICMP,
	PORT_TABLE_ICMPV6,
	/* Protocols without ports, by number. */
	PORT_TABLE_OTHER,
	PORT_TABLE_SOURCE_TCP,
	PORT_TABLE_SOURCE_UDP,
	PORT_TABLE_SOURCE_SCTP,
	PORT_TABLE__COUNT,
};

#define CHUNK_WORDS 8
#define CHUNK_RULES 512
#define CHUNK_EMPTY 0
#define CHUNK_FULL 1
/* Chunks that one unit may have; one with more denies everything. */
#define UNIT_CHUNKS 1024
/*
 * What tortie_rows leads to in tortie_rowtab: a word with the first chunk that the row has of its own (low 16
 * bits) and how many they are; the row whose chunks the others are, ROW_DEFAULT for the record's default row;
 * then the own chunks' numbers. These other rows are numbers alone, one for each chunk of the unit.
 */
#define ROW_START_MASK 0xffff
#define ROW_LENGTH_SHIFT 16
#define ROW_HEAD_WORDS 2
#define ROW_DEFAULT 0xffffffff
/* Outside tortie_rowtab, whatever is added. */
#define ROW_NONE 0x80000000
/* In a unit's mask: tortie_named is asked first for this dimension (service, source port). */
#define UNIT_NAMED(dimension) (1U << (8 + (dimension)))

/* Log rules that a decision has room to name. */
#define DECISION_LOGS 4
/* A decision's `rule` when none decided. */
#define RULE_INDEX_NONE 0xffffffff

/* What an address is. */
struct address_info {
	__u32 class;
	/* Index of its next hop; 0: none. */
	__u32 hop;
};

/* The rules of one direction of endpoints, in one family. Never changed once tortie_units refers to it. */
struct unit_record {
	__u32 chunks;
	/* Index of its first rule word; the word of bit b of chunk k is at first_rule + 512 k + b. */
	__u32 first_rule;
	/* Bit d: dimension d is looked up; else every rule matches in it. Bit 8 + d: by tortie_named first
	 * (d: service, source port). */
	__u32 mask;
	__u32 _reserved;
	/* Indexes into tortie_rowtab: rows that are numbers alone. */
	__u32 default_row[DIMENSION__COUNT];
};

struct row_key {
	__u32 record;
	enum dimension dimension;
	__u32 class;
};

struct chunk {
	__u64 words[CHUNK_WORDS];
};

struct port_classes {
	__u16 class[65536];
};

struct rule_hits {
	__u64 packets;
	__u64 bytes;
};

#endif
