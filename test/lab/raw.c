/*
 * Packets of any protocol, for tests: what the kernel has no sockets for (SCTP here), and ICMP other than
 * echo.
 *
 *   raw send FAMILY PROTOCOL DESTINATION HEX   sends one packet with this payload; the kernel writes the IP
 * header (and ICMPv6's checksum)
 *   raw listen FAMILY PROTOCOL                 prints "ready", then a line for each packet that arrives:
 * SOURCE HEX (without the IP header)
 *   raw flood FAMILY MICROSECONDS (PROTOCOL DESTINATION HEX)...   sends these packets one after the other,
 * again and again, one each so often; at the end it prints how many of each
 *
 * FAMILY is 4 or 6. Listening and floods end when standard input does, so that nobody is left behind.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { LONGEST = 65536 };

static _Noreturn void fail(const char *what)
{
	fprintf(stderr, "%s: %s\n", what, strerror(errno));
	exit(1);
}

static int open_raw(int family, int protocol)
{
	int fd = socket(family == 6 ? AF_INET6 : AF_INET, SOCK_RAW | SOCK_CLOEXEC, protocol);
	if (fd < 0)
		fail("raw socket");
	return fd;
}

static size_t bytes_of(const char *hex, unsigned char *bytes)
{
	size_t count = strlen(hex) / 2;
	for (size_t i = 0; i < count && i < LONGEST; i++) {
		unsigned int byte = 0;
		if (sscanf(hex + 2 * i, "%2x", &byte) != 1) {
			errno = EINVAL;
			fail("hex digits");
		}
		bytes[i] = (unsigned char)byte;
	}
	return count;
}

struct packet {
	int fd;
	unsigned char *payload;
	size_t length;
	struct sockaddr_storage address;
	socklen_t size;
	unsigned long sent;
};

static struct packet packet_of(int family, int protocol, const char *to, const char *hex)
{
	struct packet packet = {.fd = open_raw(family, protocol), .payload = malloc(LONGEST)};
	struct sockaddr_in *v4 = (struct sockaddr_in *)&packet.address;
	struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)&packet.address;
	void *where = family == 6 ? (void *)&v6->sin6_addr : (void *)&v4->sin_addr;

	if (packet.payload == NULL)
		fail("memory");
	packet.length = bytes_of(hex, packet.payload);
	packet.size = family == 6 ? sizeof *v6 : sizeof *v4;
	packet.address.ss_family = family == 6 ? AF_INET6 : AF_INET;
	if (inet_pton(packet.address.ss_family, to, where) != 1) {
		errno = EINVAL;
		fail("destination");
	}
	return packet;
}

/* Zero, or the system's reason. */
static int send_packet(const struct packet *packet)
{
	ssize_t sent = sendto(packet->fd, packet->payload, packet->length, 0,
			      (const struct sockaddr *)&packet->address, packet->size);

	return sent < 0 ? errno : 0;
}

static void send_one(int family, int protocol, const char *to, const char *hex)
{
	const struct packet packet = packet_of(family, protocol, to, hex);

	errno = send_packet(&packet);
	if (errno != 0)
		fail("sendto");
}

/* What the kernel refuses to send (a firewall, no route at the moment) isn't counted. */
static void flood(int family, int microseconds, int count, char **words)
{
	struct packet *packets = calloc((size_t)count, sizeof *packets);
	struct pollfd end = {.fd = STDIN_FILENO, .events = POLLIN};
	const struct timespec pause = {.tv_nsec = microseconds * 1000L};

	if (packets == NULL)
		fail("memory");
	for (int i = 0; i < count; i++)
		packets[i] = packet_of(family, atoi(words[3 * i]), words[3 * i + 1], words[3 * i + 2]);
	for (int i = 0; poll(&end, 1, 0) == 0; i = (i + 1) % count) {
		if (send_packet(&packets[i]) == 0)
			packets[i].sent++;
		nanosleep(&pause, NULL);
	}
	for (int i = 0; i < count; i++)
		printf("%lu\n", packets[i].sent);
}

static void print_packet(int fd, int family)
{
	static unsigned char packet[LONGEST];
	struct sockaddr_in6 from = {0};
	socklen_t size = sizeof from;
	ssize_t length = recvfrom(fd, packet, sizeof packet, 0, (struct sockaddr *)&from, &size);
	if (length < 0)
		fail("recvfrom");
	char text[INET6_ADDRSTRLEN];
	const void *source =
	    family == 6 ? (void *)&from.sin6_addr : (void *)&((struct sockaddr_in *)&from)->sin_addr;
	inet_ntop(family == 6 ? AF_INET6 : AF_INET, source, text, sizeof text);
	/* IPv4's raw sockets give the header too (raw(7)), IPv6's don't. */
	ssize_t start = family == 6 ? 0 : (packet[0] & 15) * 4;
	printf("%s ", text);
	for (ssize_t i = start; i < length; i++)
		printf("%02x", packet[i]);
	printf("\n");
}

static void listen_for(int family, int protocol)
{
	struct pollfd waits[] = {
	    {.fd = open_raw(family, protocol), .events = POLLIN},
	    {.fd = STDIN_FILENO, .events = POLLIN},
	};
	setvbuf(stdout, NULL, _IOLBF, 0);
	printf("ready\n");
	while (poll(waits, 2, -1) > 0 && waits[1].revents == 0)
		if (waits[0].revents & POLLIN)
			print_packet(waits[0].fd, family);
}

int main(int argc, char **argv)
{
	if (argc == 6 && strcmp(argv[1], "send") == 0)
		send_one(atoi(argv[2]), atoi(argv[3]), argv[4], argv[5]);
	else if (argc == 4 && strcmp(argv[1], "listen") == 0)
		listen_for(atoi(argv[2]), atoi(argv[3]));
	else if (argc > 4 && argc % 3 == 1 && strcmp(argv[1], "flood") == 0)
		flood(atoi(argv[2]), atoi(argv[3]), (argc - 4) / 3, argv + 4);
	else
		return 2;
	return 0;
}
