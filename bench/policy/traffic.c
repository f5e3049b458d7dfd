// SPDX-License-Identifier: Apache-2.0
/*
 * Load for `make bench-policy`, without an interpreter's own cost. One thread, one connection at a time.
 *
 * traffic echo|sink PORT: serves on every address until killed, one connection after the other; prints
 * "ready" when it listens. echo returns what it gets; sink throws it away.
 *
 * traffic connect|crr ADDRESS PORT COUNT SECONDS: COUNT times, but no longer than SECONDS: a TCP connect; a
 * connect with one byte each way. Prints "ELAPSED_US", then a line of microseconds each.
 *
 * traffic slices ADDRESS ECHO_PORT SINK_PORT: one slice for each line of its input, on a connection of its
 * own that is used for WARM_S seconds before anything counts (slow start, cold caches); a line of output
 * each: rr CPU WARM_S SECONDS: one byte each way, on that CPU. Microseconds each; their sum is all. stream
 * CPU WARM_S SECONDS: as much as goes. "ELAPSED_US BYTES BUSY_US": what the other end has acknowledged
 *   meanwhile, and what all CPUs of the machine did (a veth's work is nobody's process).
 *
 * Connections end with a reset (SO_LINGER 0), so that no port stays in TIME_WAIT.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <sched.h>
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
		ssize_t length;

		if (client < 0)
			continue;
		set(client, IPPROTO_TCP, TCP_NODELAY, 1);
		/* Until the client is done with it; a reset is an end, too. */
		while ((length = read(client, buffer, sizeof(buffer))) > 0)
			if (is_echo && write(client, buffer, length) != length)
				break;
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

static void time_many(int is_crr, struct sockaddr_in to, int count, double seconds)
{
	int64_t *took = calloc(count, sizeof(*took)), began, first, elapsed;
	int done = 0;

	if (took == NULL)
		die("samples");
	first = now_ns();
	while (done < count && now_ns() - first < seconds * 1e9) {
		int fd = open_to(&to, &began);

		if (is_crr)
			ask(fd);
		took[done++] = now_ns() - began;
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

static void rr_slice(const struct sockaddr_in *to, double warm, double seconds)
{
	/* No round takes less than a microsecond. */
	const size_t room = seconds * 1e6;
	int64_t *took = calloc(room, sizeof(*took)), began, first, now;
	size_t done = 0;
	int fd = open_to(to, &first);

	if (took == NULL)
		die("samples");
	while (now_ns() - first < warm * 1e9)
		ask(fd);
	first = now = now_ns();
	while (done < room && now - first < seconds * 1e9) {
		ask(fd);
		began = now;
		now = now_ns();
		took[done++] = now - began;
	}
	close_with_reset(fd);
	for (size_t i = 0; i < done; i++)
		printf(i == 0 ? "%.1f" : " %.1f", took[i] / 1e3);
	puts("");
	free(took);
}

static uint64_t acknowledged(int fd)
{
	struct tcp_info info = {};
	socklen_t length = sizeof(info);

	if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &length))
		die("TCP_INFO");
	return info.tcpi_bytes_acked;
}

static void write_for(int fd, int64_t since, double seconds)
{
	while (now_ns() - since < seconds * 1e9)
		if (write(fd, buffer, sizeof(buffer)) < 0)
			die("write");
}

static void stream_slice(const struct sockaddr_in *to, double warm, double seconds)
{
	int64_t began;
	int fd = open_to(to, &began);
	double idle, elapsed;
	uint64_t bytes;

	write_for(fd, began, warm);
	idle = idle_us();
	bytes = acknowledged(fd);
	began = now_ns();
	write_for(fd, began, seconds);
	elapsed = (now_ns() - began) / 1e3;
	bytes = acknowledged(fd) - bytes;
	idle = idle_us() - idle;
	close_with_reset(fd);
	printf("%.1f %llu %.0f\n", elapsed, (unsigned long long)bytes,
	       elapsed * sysconf(_SC_NPROCESSORS_ONLN) - idle);
}

static void run_on(int cpu)
{
	cpu_set_t cpus;

	CPU_ZERO(&cpus);
	CPU_SET(cpu, &cpus);
	if (sched_setaffinity(0, sizeof(cpus), &cpus))
		die("sched_setaffinity");
}

static void slices(const char *address, int echo_port, int sink_port)
{
	const struct sockaddr_in echo = address_of(address, echo_port), sink = address_of(address, sink_port);
	double warm, seconds;
	char line[64], kind[8];
	int cpu;

	while (fgets(line, sizeof(line), stdin) != NULL) {
		errno = EINVAL;
		if (sscanf(line, "%7s %d %lf %lf", kind, &cpu, &warm, &seconds) != 4)
			die(line);
		run_on(cpu);
		if (strcmp(kind, "rr") == 0)
			rr_slice(&echo, warm, seconds);
		else if (strcmp(kind, "stream") == 0)
			stream_slice(&sink, warm, seconds);
		else
			die(kind);
		fflush(stdout);
	}
}

int main(int argc, char **argv)
{
	const char *kind = argc > 1 ? argv[1] : "";
	const int is_crr = strcmp(kind, "crr") == 0;

	if (argc == 3 && (strcmp(kind, "echo") == 0 || strcmp(kind, "sink") == 0))
		serve(atoi(argv[2]), strcmp(kind, "echo") == 0);
	else if (argc == 6 && (is_crr || strcmp(kind, "connect") == 0))
		time_many(is_crr, address_of(argv[2], atoi(argv[3])), atoi(argv[4]), atof(argv[5]));
	else if (argc == 5 && strcmp(kind, "slices") == 0)
		slices(argv[2], atoi(argv[3]), atoi(argv[4]));
	else {
		fprintf(stderr, "use: see the head of traffic.c\n");
		return 2;
	}
	return 0;
}
