// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * What would become of a packet, for people who ask: from the maps and by the lookup that packets meet.
 * Nothing is counted. A question is the payload of a frame of no protocol, in a test run, in which the answer
 * comes back (programs of type `syscall` may not use LPM tries).
 */
#include "consts.h"
#include "endpoint-maps.h"

#define FAMILY 4
#include "ask.h"
#undef FAMILY
#define FAMILY 6
#include "ask.h"
#undef FAMILY

SEC("tc")
int tortie_ask4(struct __sk_buff *skb)
{
	return answer4();
}

SEC("tc")
int tortie_ask6(struct __sk_buff *skb)
{
	return answer6();
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
