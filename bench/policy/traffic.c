// SPDX-License-Identifier: Apache-2.0
/*
 * Load for `make bench-policy`, without an interpreter's own cost. One thread, one connection at a time.
 *
 * traffic echo|sink PORT: serves on every address until killed, one connection after the other; prints
 * "ready" when it listens. echo returns what it gets; sink counts, and at the end of the stream answers the
 * count (8 bytes).
 *
 * traffic connect|crr|rr ADDRESS PORT COUNT SECONDS: COUNT times, but no longer than SECONDS: a TCP connect;
 * a connect with one byte each way; one byte each way on one connection. Prints "ELAPSED_US", then a line of
 * microseconds each. Connections end with a reset (SO_LINGER 0), so that no port stays in TIME_WAIT.
 *
 * traffic stream ADDRESS PORT SECONDS: sends for SECONDS; prints "ELAPSED_US BYTES BUSY_US": until the sink
 * has all, what it has, and what all CPUs of the machine did meanwhile (a veth's work is nobody's process).
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static char buffer[256 * 1024];

static void die(const char *what)
{
	fprintf(stderr, "traffic: %s: %s\n", what, strerror(errno));
	exit(1);
}

static int64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000000000LL + now.tv_nsec;
}

static void set(int fd, int level, int option, int value)
{
	if (setsockopt(fd, level, option, &value, sizeof(value)))
		die("setsockopt");
}

static void close_with_reset(int fd)
{
	const struct linger linger = {.l_onoff = 1, .l_linger = 0};

	setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
	close(fd);
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

static void serve(int port, int is_echo)
{
	struct sockaddr_in6 address = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
	int listener = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (listener < 0)
		die("socket");
	set(listener, SOL_SOCKET, SO_REUSEADDR, 1);
	if (bind(listener, (struct sockaddr *)&address, sizeof(address)) || listen(listener, 4096))
		die("listen");
	puts("ready");
	fflush(stdout);
	for (;;) {
		int client = accept(listener, NULL, NULL);
		uint64_t total = 0;
		ssize_t length;

		if (client < 0)
			continue;
		set(client, IPPROTO_TCP, TCP_NODELAY, 1);
		/* Until the client is done with it; a reset is an end, too. */
		while ((length = read(client, buffer, sizeof(buffer))) > 0) {
			total += length;
			if (is_echo && write(client, buffer, length) != length)
				break;
		}
		if (!is_echo && length == 0 && write(client, &total, sizeof(total)) < 0)
			perror("traffic: the count");
		close(client);
	}
}

static int open_to(const struct sockaddr_in *to, int64_t *began)
{
	const struct timeval patience = {.tv_sec = 2};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0)
		die("socket");
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	set(fd, IPPROTO_TCP, TCP_NODELAY, 1);
	*began = now_ns();
	if (connect(fd, (const struct sockaddr *)to, sizeof(*to)))
		die("connect");
	return fd;
}

static void ask(int fd)
{
	char byte = 'x';

	if (write(fd, &byte, 1) != 1 || read(fd, &byte, 1) != 1)
		die("answer");
}

static void time_many(const char *kind, struct sockaddr_in to, int count, double seconds)
{
	const int is_rr = strcmp(kind, "rr") == 0, is_crr = strcmp(kind, "crr") == 0;
	int64_t *took = calloc(count, sizeof(*took)), began, first, elapsed;
	int fd = -1, done = 0;

	if (took == NULL)
		die("samples");
	if (is_rr)
		fd = open_to(&to, &began);
	first = now_ns();
	while (done < count && now_ns() - first < seconds * 1e9) {
		if (is_rr)
			began = now_ns();
		else
			fd = open_to(&to, &began);
		if (is_rr || is_crr)
			ask(fd);
		took[done++] = now_ns() - began;
		if (!is_rr)
			close_with_reset(fd);
	}
	elapsed = now_ns() - first;
	printf("%.1f\n", elapsed / 1e3);
	for (int i = 0; i < done; i++)
		printf("%.1f\n", took[i] / 1e3);
}

/* What all CPUs together have not worked, in us: idle, waiting for I/O, or taken away by the hypervisor
 * (proc(5)). */
static double idle_us(void)
{
	unsigned long long idle, waiting, stolen;
	FILE *stat = fopen("/proc/stat", "re");

	if (stat == NULL ||
	    fscanf(stat, "cpu %*u %*u %*u %llu %llu %*u %*u %llu", &idle, &waiting, &stolen) != 3)
		die("/proc/stat");
	fclose(stat);
	return (idle + waiting + stolen) * (1e6 / sysconf(_SC_CLK_TCK));
}

static void stream(struct sockaddr_in to, double seconds)
{
	double idle = idle_us(), elapsed;
	uint64_t total = 0;
	int64_t began;
	int fd = open_to(&to, &began);

	while (now_ns() - began < seconds * 1e9)
		if (write(fd, buffer, sizeof(buffer)) < 0)
			die("write");
	shutdown(fd, SHUT_WR);
	if (recv(fd, &total, sizeof(total), MSG_WAITALL) != sizeof(total))
		die("the sink's count");
	elapsed = (now_ns() - began) / 1e3;
	printf("%.1f %llu %.0f\n", elapsed, (unsigned long long)total,
	       elapsed * sysconf(_SC_NPROCESSORS_ONLN) - (idle_us() - idle));
	close(fd);
}

int main(int argc, char **argv)
{
	const char *kind = argc > 1 ? argv[1] : "";

	if (argc == 3 && (strcmp(kind, "echo") == 0 || strcmp(kind, "sink") == 0))
		serve(atoi(argv[2]), strcmp(kind, "echo") == 0);
	else if (argc == 6)
		time_many(kind, address_of(argv[2], atoi(argv[3])), atoi(argv[4]), atof(argv[5]));
	else if (argc == 5)
		stream(address_of(argv[2], atoi(argv[3])), atof(argv[4]));
	else {
		fprintf(stderr, "use: see the head of traffic.c\n");
		return 2;
	}
	return 0;
}
