// SPDX-License-Identifier: Apache-2.0
/*
 * How long a TCP connect takes, without an interpreter's own cost.
 *
 * connect-timer serve PORT: accepts, on every address, until killed, one connection after the other; prints
 * "ready" when it listens. connect-timer connect ADDRESS PORT COUNT: COUNT connects one after the other;
 * prints one line of microseconds each. A connection ends with a reset (SO_LINGER 0), so that no port stays
 * in TIME_WAIT.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static void die(const char *what)
{
	fprintf(stderr, "connect-timer: %s: %s\n", what, strerror(errno));
	exit(1);
}

static double now_us(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1e6 + now.tv_nsec / 1e3;
}

static void close_with_reset(int fd)
{
	struct linger linger = {.l_onoff = 1, .l_linger = 0};

	setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
	close(fd);
}

static int serve(int port)
{
	struct sockaddr_in6 address = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
	int fd = socket(AF_INET6, SOCK_STREAM, 0);
	int yes = 1;

	if (fd < 0)
		die("socket");
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes));
	if (bind(fd, (struct sockaddr *)&address, sizeof(address)) || listen(fd, 4096))
		die("listen");
	puts("ready");
	fflush(stdout);
	for (;;) {
		int client = accept(fd, NULL, NULL);
		char byte;

		if (client < 0)
			continue;
		/* Until the client resets it: one that is reset by us may not even have seen the connection
		 * come about. */
		while (read(client, &byte, 1) > 0)
			;
		close(client);
	}
}

static int connect_many(const char *text, int port, int count)
{
	struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_port = htons(port)};
	struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
	int is_v6 = strchr(text, ':') != NULL;
	struct sockaddr *to = is_v6 ? (struct sockaddr *)&v6 : (struct sockaddr *)&v4;
	socklen_t length = is_v6 ? sizeof(v6) : sizeof(v4);

	if (inet_pton(is_v6 ? AF_INET6 : AF_INET, text,
		      is_v6 ? (void *)&v6.sin6_addr : (void *)&v4.sin_addr) != 1)
		die(text);
	for (int i = 0; i < count; i++) {
		struct timeval patience = {.tv_sec = 2};
		int fd = socket(is_v6 ? AF_INET6 : AF_INET, SOCK_STREAM, 0);
		double began;

		if (fd < 0)
			die("socket");
		setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
		began = now_us();
		if (connect(fd, to, length))
			die("connect");
		printf("%.1f\n", now_us() - began);
		close_with_reset(fd);
	}
	return 0;
}

int main(int argc, char **argv)
{
	if (argc == 3 && strcmp(argv[1], "serve") == 0)
		return serve(atoi(argv[2]));
	if (argc == 5 && strcmp(argv[1], "connect") == 0)
		return connect_many(argv[2], atoi(argv[3]), atoi(argv[4]));
	fprintf(stderr, "use: connect-timer serve PORT | connect ADDRESS PORT COUNT\n");
	return 2;
}
