// SPDX-License-Identifier: Apache-2.0
/*
 * When do TCP connects begin to succeed? What the kernel lets through, seen from outside the program that
 * changes it.
 *
 * Reads lines "SOURCE ADDRESS PORT". Sends a SYN every PERIOD_US (20 us of CPU each), each from a port that
 * it hasn't used in this life (some 60,000 there are): a flow that was judged before doesn't count. Answers
 * "watching" when three got no answer, or "already", and nothing follows. Then "NS GAP_NS": when the first
 * one that succeeded was sent (CLOCK_MONOTONIC), and how long after the one before; or "late" after LIMIT_S.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define PERIOD_US 100
#define LIMIT_S 10
/* SYNs that may still be answered: those of the last 6 ms. */
#define PENDING 64

static void die(const char *what)
{
	fprintf(stderr, "connect-watch: %s: %s\n", what, strerror(errno));
	exit(1);
}

static int64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000000000LL + now.tv_nsec;
}

static void close_with_reset(int fd)
{
	const struct linger linger = {.l_onoff = 1, .l_linger = 0};

	setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
	close(fd);
}

static int send_syn(struct sockaddr_in from, const struct sockaddr_in *to)
{
	static int port = 1024;
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	if (fd < 0)
		die("socket");
	do {
		from.sin_port = htons(port);
		port = port == 65535 ? 1024 : port + 1;
		errno = 0;
		/* Some ports are servers'. */
	} while (bind(fd, (struct sockaddr *)&from, sizeof(from)) && errno == EADDRINUSE);
	if (errno != 0)
		die("bind");
	if (connect(fd, (const struct sockaddr *)to, sizeof(*to)) && errno != EINPROGRESS)
		die("SYN");
	return fd;
}

static void watch(struct sockaddr_in from, struct sockaddr_in to)
{
	const struct timespec pause = {.tv_nsec = PERIOD_US * 1000};
	const int64_t began = now_ns();
	struct pollfd pending[PENDING];
	int64_t sent[2 * PENDING] = {0};
	int sends = 0, found = -1;

	while (found < 0 && now_ns() - began < LIMIT_S * 1000000000LL) {
		int oldest = sends < PENDING ? 0 : sends - PENDING + 1;

		if (sends >= PENDING)
			close_with_reset(pending[sends % PENDING].fd);
		sent[sends % (2 * PENDING)] = now_ns();
		pending[sends % PENDING] = (struct pollfd){.fd = send_syn(from, &to), .events = POLLOUT};
		sends++;
		ppoll(pending, sends - oldest, &pause, NULL);
		for (int i = oldest; i < sends && found < 0; i++) {
			short events = pending[i % PENDING].revents;

			if (events & POLLERR) {
				errno = ECONNREFUSED;
				die("nobody serves there");
			}
			if (events & POLLOUT)
				found = i;
		}
		if (sends == 3 || (found >= 0 && sends < 3)) {
			puts(found >= 0 ? "already" : "watching");
			fflush(stdout);
		}
	}
	if (found < 0)
		puts("late");
	else if (sends > 3)
		printf("%lld %lld\n", (long long)sent[found % (2 * PENDING)],
		       (long long)(sent[found % (2 * PENDING)] - sent[(found - 1) % (2 * PENDING)]));
	for (int i = 0; i < sends && i < PENDING; i++)
		close_with_reset(pending[i].fd);
}

static struct sockaddr_in address_of(const char *text, int port)
{
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};

	if (inet_pton(AF_INET, text, &address.sin_addr) != 1) {
		errno = EINVAL;
		die(text);
	}
	return address;
}

int main(void)
{
	char line[256], from[64], to[64];
	int port;

	/* On a busy machine it would look when everybody else has had a turn. It doesn't need to be allowed.
	 */
	setpriority(PRIO_PROCESS, 0, -20);
	/* Or the kernel lets each pause take 50 us longer. */
	if (prctl(PR_SET_TIMERSLACK, 1) != 0)
		die("timer slack");
	while (fgets(line, sizeof(line), stdin) != NULL) {
		if (sscanf(line, "%63s %63s %d", from, to, &port) != 3) {
			errno = EINVAL;
			die(line);
		}
		watch(address_of(from, 0), address_of(to, port));
		fflush(stdout);
	}
	return 0;
}
