// SPDX-License-Identifier: Apache-2.0
// The CNI executable. It knows as little of CNI as it can: it hands the caller's environment and standard
// input to the agent and prints what comes back (cni-plugin/protocol.ts). Without an agent it says so in
// CNI's words; with "standalone": true it becomes the plugin itself, run by the conf's node. A small static
// file, because its start is part of every pod's start.
#define _GNU_SOURCE
#include "header.h"
#include "json.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#define MAX_ANSWER_BYTES (16 << 20)
#define NORETURN __attribute__((noreturn))

struct buffer {
	char *data;
	size_t used, size;
};

extern char **environ;
static struct buffer input, answer;
static const char *verb;
static char version[32] = CNI_LATEST;
static volatile sig_atomic_t ticks_left;

// A tick interrupts the blocking call of the moment (no SA_RESTART), so that the time limit holds anywhere.
static void on_tick(int signal)
{
	(void)signal;
	if (ticks_left > 0)
		ticks_left--;
}

static bool interrupted(void)
{
	return errno == EINTR && ticks_left > 0;
}

static bool write_all(int fd, const void *data, size_t length)
{
	for (const char *at = data; length > 0;) {
		const ssize_t n = write(fd, at, length);
		if (n < 0 && !interrupted())
			return false;
		at += n < 0 ? 0 : n;
		length -= n < 0 ? 0 : (size_t)n;
	}
	return true;
}

// Prints the specification's error object and exits. What would need more than a backslash in JSON becomes
// '?'.
NORETURN __attribute__((format(printf, 2, 3))) static void fail(int code, const char *format, ...)
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

static void append(struct buffer *b, const void *data, size_t length)
{
	while (b->size - b->used < length || !b->data) {
		b->size = b->size ? 2 * b->size : 16384;
		b->data = realloc(b->data, b->size);
		if (!b->data)
			fail(CODE_IO, "out of memory");
	}
	if (length > 0)
		memcpy(b->data + b->used, data, length);
	b->used += length;
}

// Reads to the end of the file. False: errno, which is EFBIG beyond `limit`.
static bool read_all(int fd, struct buffer *b, size_t limit)
{
	static char chunk[65536];
	ssize_t n;

	append(b, NULL, 0);
	while ((n = read(fd, chunk, sizeof(chunk))) != 0) {
		if (n < 0 && !interrupted())
			return false;
		append(b, chunk, n < 0 ? 0 : (size_t)n);
		if (b->used > limit) {
			errno = EFBIG;
			return false;
		}
	}
	return true;
}

// Without the agent VERSION is still known; nothing can be added, and the rest is worth another try.
NORETURN static void no_agent(const char *socket, const char *what, int error)
{
	if (strcmp(verb, "VERSION") == 0) {
		dprintf(1, "{\"cniVersion\":\"%s\",\"supportedVersions\":%s}\n", version, CNI_SUPPORTED);
		_exit(0);
	}
	const int code = strcmp(verb, "STATUS") == 0 ? CODE_UNAVAILABLE : CODE_TRY_AGAIN;
	if (ticks_left == 0)
		fail(code, "%s: the agent at %s did not answer in time: see its log and `tortie status`",
		     verb, socket);
	fail(code, "%s at %s%s%s: is the agent (`tortie agent`) running?", what, socket, error ? ": " : "",
	     error ? strerror(error) : "");
}

static int connect_agent(const char *path)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0)
		fail(CODE_IO, "can't make a socket: %s", strerror(errno));
	if (strlen(path) >= sizeof(address.sun_path))
		fail(CODE_CONF, "network configuration: socket has over %zu bytes: %s",
		     sizeof(address.sun_path) - 1, path);
	strcpy(address.sun_path, path);
	while (connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0)
		if (!interrupted())
			no_agent(path, "there is no agent", errno);
	return fd;
}

// Opens the container's namespace where its path means what the runtime means: the agent may have another
// mount namespace, where the path is nothing, or something else. It opens this process's descriptor below
// /proc.
static void append_netns(struct buffer *head)
{
	const char *path = getenv("CNI_NETNS");
	struct stat status;
	char text[128];

	if (!path || !*path)
		return;
	const int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0 || fstat(fd, &status) < 0)
		snprintf(text, sizeof(text), NETNS_VARIABLE "=!%s", strerror(errno));
	else
		snprintf(text, sizeof(text), NETNS_VARIABLE "=%d/%d/%llu", getpid(), fd,
			 (unsigned long long)status.st_ino);
	append(head, text, strlen(text) + 1);
}

static bool send_request(int fd)
{
	struct buffer head = {0};

	append(&head, PROTOCOL_LINE, strlen(PROTOCOL_LINE));
	for (char **variable = environ; *variable; variable++)
		if (strncmp(*variable, "CNI_", 4) == 0 || strncmp(*variable, "PATH=", 5) == 0)
			append(&head, *variable, strlen(*variable) + 1);
	append_netns(&head);
	append(&head, "", 1);
	if (head.used > MAX_ENV_BYTES)
		fail(CODE_ENVIRONMENT, "the CNI_ variables have over %d bytes", MAX_ENV_BYTES);
	return write_all(fd, head.data, head.used) && write_all(fd, input.data, input.used) &&
	       shutdown(fd, SHUT_WR) == 0;
}

// The plugin gets standard input anew, and its own time limit.
NORETURN static void exec_standalone(void)
{
	char dir[3072], script[4096], node[4096];
	const ssize_t length = readlink("/proc/self/exe", dir, sizeof(dir) - 1);
	const int fd = memfd_create("cni-stdin", MFD_CLOEXEC);

	dir[length > 0 ? length : 0] = '\0';
	char *const slash = strrchr(dir, '/');
	if (!slash)
		fail(CODE_IO, "can't read /proc/self/exe: %s", strerror(errno));
	*slash = '\0';
	snprintf(script, sizeof(script), "%s/tortie.mjs", dir);
	if (json_member(input.data, input.used, "node", node, sizeof(node)) != JSON_STRING)
		snprintf(node, sizeof(node), "%s/../bin/node", dir);
	if (fd < 0 || !write_all(fd, input.data, input.used) || lseek(fd, 0, SEEK_SET) < 0 || dup2(fd, 0) < 0)
		fail(CODE_IO, "can't pass standard input on: %s", strerror(errno));
	setitimer(ITIMER_REAL, &(struct itimerval){0}, NULL);
	signal(SIGPIPE, SIG_DFL);
	execv(node, (char *[]){node, script, NULL});
	fail(CODE_IO, "can't run %s: %s (standalone; key \"node\" of the network configuration)", node,
	     strerror(errno));
}

int main(void)
{
	char path[4096] = DEFAULT_SOCKET, text[sizeof(path)];

	verb = getenv("CNI_COMMAND");
	if (!verb || !*verb)
		fail(CODE_ENVIRONMENT,
		     "CNI_COMMAND is not set: this is a CNI plugin, to be run by a container runtime");
	ticks_left = strcmp(verb, "ADD") == 0 || strcmp(verb, "DEL") == 0 ? 900 : 300; // of 100 ms
	signal(SIGPIPE, SIG_IGN);
	sigaction(SIGALRM, &(struct sigaction){.sa_handler = on_tick}, NULL);
	setitimer(ITIMER_REAL, &(struct itimerval){{0, 100000}, {0, 100000}}, NULL);

	if (!read_all(0, &input, MAX_STDIN_BYTES))
		fail(errno == EFBIG ? CODE_CONF : CODE_IO, "can't read standard input: %s (at most %d bytes)",
		     strerror(errno), MAX_STDIN_BYTES);
	if (json_member(input.data, input.used, "cniVersion", text, sizeof(version)) == JSON_STRING &&
	    *text && strspn(text, "0123456789.") == strlen(text))
		strcpy(version, text);
	if (json_member(input.data, input.used, "standalone", text, sizeof(text)) == JSON_LITERAL &&
	    strcmp(text, "true") == 0)
		exec_standalone();
	if (json_member(input.data, input.used, "socket", text, sizeof(text)) == JSON_STRING && *text)
		strcpy(path, text);

	const int fd = connect_agent(path);
	const int send_error = send_request(fd) ? 0 : errno;
	// An agent that has heard enough may answer before it has read everything: so look at the answer
	// first.
	const int error = read_all(fd, &answer, MAX_ANSWER_BYTES) ? send_error : errno;
	if (ticks_left == 0 || answer.used == 0)
		no_agent(path, "the agent went away without an answer", error);
	// An answer is '0' or '1' and nothing, or an object: the rest was cut off.
	size_t end = answer.used;
	while (end > 1 && (answer.data[end - 1] == '\n' || answer.data[end - 1] == ' '))
		end--;
	if ((*answer.data != '0' && *answer.data != '1') || (end > 1 && answer.data[end - 1] != '}'))
		no_agent(path, "the agent went away in the middle of its answer", error);
	return write_all(1, answer.data + 1, answer.used - 1) ? *answer.data - '0' : 1;
}
