// SPDX-License-Identifier: Apache-2.0
/*
 * Says when an address becomes, or ceases to be, a member of an ipset: what the kernel answers, from outside
 * the program that changes the set. ipset has no notifications, so it asks, PERIOD_US after the last answer
 * (20 us of CPU each), only while something is awaited.
 *
 * Reads lines "SET IPV4 present|absent" and answers each with two lines. The first one comes after the first
 * look: "watching", or "already", and nothing follows. The second one: "NS GAP_NS", the time of the first
 * answer that is as wanted (CLOCK_MONOTONIC) and the longest time between two answers; or, after LIMIT_S,
 * "late".
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <linux/netfilter/ipset/ip_set.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netlink.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>

#define PERIOD_US 50
#define LIMIT_S 10

struct request {
	struct nlmsghdr header;
	struct nfgenmsg family;
	char attributes[256];
};

static void die(const char *what)
{
	fprintf(stderr, "set-watch: %s: %s\n", what, strerror(errno));
	exit(1);
}

static int64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static struct nlattr *begin(struct request *request, uint16_t type)
{
	struct nlattr *attribute = (void *)request + NLMSG_ALIGN(request->header.nlmsg_len);

	attribute->nla_type = type;
	request->header.nlmsg_len = NLMSG_ALIGN(request->header.nlmsg_len) + NLA_HDRLEN;
	return attribute;
}

static void end(struct request *request, struct nlattr *attribute)
{
	attribute->nla_len = (char *)request + request->header.nlmsg_len - (char *)attribute;
	request->header.nlmsg_len = NLMSG_ALIGN(request->header.nlmsg_len);
}

static void put(struct request *request, uint16_t type, const void *value, size_t length)
{
	struct nlattr *attribute = begin(request, type);

	memcpy((char *)attribute + NLA_HDRLEN, value, length);
	request->header.nlmsg_len += length;
	end(request, attribute);
}

static void make_test(struct request *request, const char *set, struct in_addr address)
{
	const uint8_t protocol = 7;
	struct nlattr *data, *ip;

	memset(request, 0, sizeof(*request));
	request->header.nlmsg_len = NLMSG_LENGTH(sizeof(struct nfgenmsg));
	request->header.nlmsg_type = NFNL_SUBSYS_IPSET << 8 | IPSET_CMD_TEST;
	request->header.nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK;
	request->family.nfgen_family = AF_INET;
	request->family.version = NFNETLINK_V0;
	put(request, IPSET_ATTR_PROTOCOL, &protocol, sizeof(protocol));
	put(request, IPSET_ATTR_SETNAME, set, strlen(set) + 1);
	data = begin(request, IPSET_ATTR_DATA | NLA_F_NESTED);
	ip = begin(request, IPSET_ATTR_IP | NLA_F_NESTED);
	put(request, IPSET_ATTR_IPADDR_IPV4 | NLA_F_NET_BYTEORDER, &address, sizeof(address));
	end(request, ip);
	end(request, data);
}

/* 1: a member, 0: none. */
static int ask(int netlink, const struct request *request)
{
	struct {
		struct nlmsghdr header;
		struct nlmsgerr error;
		char rest[512];
	} answer;

	if (send(netlink, request, request->header.nlmsg_len, 0) < 0)
		die("send");
	if (recv(netlink, &answer, sizeof(answer), 0) < (ssize_t)NLMSG_LENGTH(sizeof(answer.error)))
		die("recv");
	if (answer.header.nlmsg_type != NLMSG_ERROR) {
		errno = EPROTO;
		die("answer");
	}
	if (answer.error.error == 0)
		return 1;
	if (answer.error.error == -IPSET_ERR_EXIST)
		return 0;
	errno = -answer.error.error;
	die("test");
	return 0;
}

static void watch(int netlink, const struct request *request, int wanted)
{
	const struct timespec pause = {.tv_nsec = PERIOD_US * 1000};
	const int64_t began = now_ns();
	int64_t last = 0, now;

	for (;;) {
		int is = ask(netlink, request);

		now = now_ns();
		if (last == 0) {
			puts(is == wanted ? "already" : "watching");
			fflush(stdout);
			if (is == wanted)
				return;
		}
		if (is == wanted) {
			printf("%lld %lld\n", (long long)now, (long long)(now - last));
			return;
		}
		if (now - began > LIMIT_S * 1000000000LL) {
			printf("late\n");
			return;
		}
		last = now;
		nanosleep(&pause, NULL);
	}
}

int main(void)
{
	const int netlink = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_NETFILTER);
	char line[256], set[IPSET_MAXNAMELEN], text[64], wanted[16];

	if (netlink < 0)
		die("socket");
	/* On a busy machine it would look when everybody else has had a turn. It doesn't need to be allowed.
	 */
	setpriority(PRIO_PROCESS, 0, -20);
	/* Or the kernel lets each pause take 50 us longer. */
	if (prctl(PR_SET_TIMERSLACK, 1) != 0)
		die("timer slack");
	while (fgets(line, sizeof(line), stdin) != NULL) {
		struct request request;
		struct in_addr address;

		if (sscanf(line, "%31s %63s %15s", set, text, wanted) != 3 ||
		    inet_pton(AF_INET, text, &address) != 1) {
			errno = EINVAL;
			die(line);
		}
		make_test(&request, set, address);
		watch(netlink, &request, strcmp(wanted, "present") == 0);
		fflush(stdout);
	}
	return 0;
}
