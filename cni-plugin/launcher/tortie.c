// SPDX-License-Identifier: Apache-2.0
// The CNI executable. It knows as little of CNI as it can: it hands the caller's environment and standard
// input to the agent and prints what comes back (cni-plugin/protocol.ts). Without an agent it says so in
// CNI's words; with "standalone": true it becomes the plugin itself, run by the node of the conf. A small
// static file, because its start is part of every pod's start.
#define _GNU_SOURCE
#include "json.h"
#include "header.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

struct buffer {
	char *data;
	size_t used, size;
};

extern char **environ;
static struct buffer input, answer;
static const char *verb;
static char version[32] = CNI_LATEST;
static volatile sig_atomic_t ticks_left;

// Every blocking call is interrupted ten times a second (no SA_RESTART), so that the time limit holds
// anywhere.
static void on_tick(int signal)
{
	(void)signal;
	if (ticks_left > 0)
		ticks_left--;
}

static bool try_again(void)
{
	return errno == EINTR && ticks_left > 0;
}

static bool write_all(int fd, const void *data, size_t length)
{
	for (const char *at = data; length > 0;) {
		const ssize_t n = write(fd, at, length);
		if (n < 0 && !try_again())
			return false;
		at += n < 0 ? 0 : n;
		length -= n < 0 ? 0 : (size_t)n;
	}
	return true;
}

// Prints the specification's error object and exits. The text is escaped; what isn't ASCII becomes '?'.
__attribute__((noreturn)) static void fail(int code, const char *format, ...)
{
	char text[1024], escaped[2 * sizeof(text)], *to = escaped;
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	for (const char *from = text; *from; from++) {
		if (*from == '"' || *from == '\\')
			*to++ = '\\';
		*to++ = *from < ' ' || *from > '~' ? '?' : *from;
	}
	*to = '\0';
	dprintf(1, "{\"cniVersion\":\"%s\",\"code\":%d,\"msg\":\"%s\"}\n", version, code, escaped);
	_exit(1);
}

// Reads to the end of the file. False: errno, or EFBIG beyond `limit`.
static bool read_all(int fd, struct buffer *b, size_t limit)
{
	while (true) {
		if (b->used == b->size) {
			b->size = b->size ? 2 * b->size : 16384;
			b->data = realloc(b->data, b->size);
			if (!b->data)
				fail(CODE_IO, "out of memory");
		}
		const ssize_t n = read(fd, b->data + b->used, b->size - b->used);
		if (n == 0)
			return true;
		if (n < 0 && !try_again())
			return false;
		b->used += n < 0 ? 0 : (size_t)n;
		if (b->used > limit) {
			errno = EFBIG;
			return false;
		}
	}
}

// Without the agent VERSION is still known; nothing can be added, and the rest is worth another try.
__attribute__((noreturn)) static void no_agent(const char *path, const char *what, int error)
{
	const bool is_status = strcmp(verb, "STATUS") == 0;
	if (strcmp(verb, "VERSION") == 0) {
		dprintf(1, "{\"cniVersion\":\"%s\",\"supportedVersions\":%s}\n", version, CNI_SUPPORTED);
		_exit(0);
	}
	if (ticks_left == 0)
		fail(CODE_TRY_AGAIN, "the agent at %s did not answer %s in time: see its log", path, verb);
	fail(is_status ? CODE_UNAVAILABLE : CODE_TRY_AGAIN,
	     "%s at %s%s%s: is the agent (tortie agent) running?", what, path, error ? ": " : "",
	     error ? strerror(error) : "");
}

static int connect_agent(const char *path)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (strlen(path) >= sizeof(address.sun_path))
		fail(CODE_CONF, "network configuration: socket %s is longer than %zu bytes", path,
		     sizeof(address.sun_path) - 1);
	strcpy(address.sun_path, path);
	if (fd < 0)
		fail(CODE_IO, "can't make a socket: %s", strerror(errno));
	while (connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0)
		if (!try_again())
			no_agent(path, "can't reach the agent", errno);
	return fd;
}

static bool send_request(int fd)
{
	struct buffer env = {.data = malloc(MAX_ENV_BYTES)};

	for (char **variable = environ; env.data && *variable; variable++) {
		const size_t length = strlen(*variable) + 1;
		if (strncmp(*variable, "CNI_", 4) != 0 && strncmp(*variable, "PATH=", 5) != 0)
			continue;
		if (env.used + length >= MAX_ENV_BYTES)
			fail(CODE_ENVIRONMENT, "the CNI_ variables have over %d bytes", MAX_ENV_BYTES);
		memcpy(env.data + env.used, *variable, length);
		env.used += length;
	}
	if (!env.data)
		fail(CODE_IO, "out of memory");
	env.data[env.used++] = '\0';
	return write_all(fd, PROTOCOL_LINE, strlen(PROTOCOL_LINE)) && write_all(fd, env.data, env.used) &&
	       write_all(fd, input.data, input.used) && shutdown(fd, SHUT_WR) == 0;
}

__attribute__((noreturn)) static void exec_standalone(void)
{
	const struct itimerval off = {0};
	char dir[3072], script[4096], node[4096];
	const ssize_t length = readlink("/proc/self/exe", dir, sizeof(dir) - 1);
	const int fd = memfd_create("cni-stdin", MFD_CLOEXEC);

	dir[length > 0 ? length : 0] = '\0';
	char *slash = strrchr(dir, '/');
	if (!slash)
		fail(CODE_IO, "can't find my own directory by /proc/self/exe: %s", strerror(errno));
	*slash = '\0';
	snprintf(script, sizeof(script), "%s/tortie.mjs", dir);
	if (json_member(input.data, input.used, "node", node, sizeof(node)) != JSON_STRING)
		snprintf(node, sizeof(node), "%s/../bin/node", dir);
	if (fd < 0 || !write_all(fd, input.data, input.used) || lseek(fd, 0, SEEK_SET) < 0 || dup2(fd, 0) < 0)
		fail(CODE_IO, "can't pass standard input on: %s", strerror(errno));
	setitimer(ITIMER_REAL, &off, NULL);
	signal(SIGPIPE, SIG_DFL);
	execv(node, (char *[]){node, script, NULL});
	fail(CODE_IO,
	     "can't run %s for the standalone plugin: %s (key \"node\" of the network configuration)", node,
	     strerror(errno));
}

int main(void)
{
	const struct itimerval tick = {{0, 100000}, {0, 100000}};
	const struct sigaction on_alarm = {.sa_handler = on_tick};
	char path[4096], flag[8], asked[sizeof(version)];

	verb = getenv("CNI_COMMAND");
	if (!verb || !*verb)
		fail(CODE_ENVIRONMENT,
		     "CNI_COMMAND is not set: this is a CNI plugin, to be run by a container runtime");
	ticks_left = strcmp(verb, "ADD") == 0 || strcmp(verb, "DEL") == 0 ? 900 : 300;
	signal(SIGPIPE, SIG_IGN);
	sigaction(SIGALRM, &on_alarm, NULL);
	setitimer(ITIMER_REAL, &tick, NULL);

	if (!read_all(0, &input, MAX_STDIN_BYTES))
		fail(errno == EFBIG ? CODE_CONF : CODE_IO, "can't read standard input (at most %d bytes): %s",
		     MAX_STDIN_BYTES, strerror(errno));
	if (json_member(input.data, input.used, "cniVersion", asked, sizeof(asked)) == JSON_STRING &&
	    *asked && strspn(asked, "0123456789.") == strlen(asked))
		strcpy(version, asked);
	if (json_member(input.data, input.used, "standalone", flag, sizeof(flag)) &&
	    strcmp(flag, "true") == 0)
		exec_standalone();
	if (json_member(input.data, input.used, "socket", path, sizeof(path)) != JSON_STRING)
		strcpy(path, DEFAULT_SOCKET);

	const int fd = connect_agent(path);
	const bool is_sent = send_request(fd);
	const int send_error = errno;
	// A server that has heard enough may answer before it has read everything.
	if (!read_all(fd, &answer, 16 << 20) && ticks_left > 0 && answer.used == 0)
		no_agent(path, "lost the agent", errno);
	if (ticks_left == 0 || answer.used == 0)
		no_agent(path, "the agent ended without an answer", is_sent ? 0 : send_error);
	// Every answer is empty or a JSON object: anything else was cut off.
	size_t end = answer.used;
	while (end > 1 && strchr(" \n", answer.data[end - 1]))
		end--;
	if ((*answer.data != '0' && *answer.data != '1') || (end > 1 && answer.data[end - 1] != '}'))
		no_agent(path, "the agent ended in the middle of its answer", 0);
	if (!write_all(1, answer.data + 1, answer.used - 1))
		return 1;
	return *answer.data - '0';
}
