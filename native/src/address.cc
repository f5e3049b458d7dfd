#include "address.h"
#include <arpa/inet.h>
#include <cstdio>
#include <sys/socket.h>
#include <charconv>

namespace tortie
{

size_t IpAddress::size() const
{
	return family == AF_INET ? 4 : 16;
}

uint8_t IpAddress::bits() const
{
	return family == AF_INET ? 32 : 128;
}

std::optional<IpAddress> ParseAddress(const std::string &text)
{
	// inet_pton stops at a NUL inside the text.
	if (text.find('\0') != std::string::npos)
		return std::nullopt;
	IpAddress address;
	address.family = text.find(':') == std::string::npos ? AF_INET : AF_INET6;
	if (inet_pton(address.family, text.c_str(), address.bytes.data()) != 1)
		return std::nullopt;
	address.prefix = address.bits();
	return address;
}

std::optional<IpAddress> ParseCidr(const std::string &text)
{
	const size_t slash = text.find('/');
	if (slash == std::string::npos)
		return std::nullopt;
	auto address = ParseAddress(text.substr(0, slash));
	if (!address)
		return std::nullopt;
	const char *first = text.data() + slash + 1;
	const char *last = text.data() + text.size();
	unsigned prefix = 0;
	const auto [end, error] = std::from_chars(first, last, prefix);
	if (first == last || error != std::errc() || end != last || prefix > address->bits())
		return std::nullopt;
	address->prefix = static_cast<uint8_t>(prefix);
	return address;
}

std::optional<Mac> ParseMac(const std::string &text)
{
	Mac mac{};
	if (text.size() != 17)
		return std::nullopt;
	for (size_t i = 0; i < mac.size(); i++) {
		const char *first = text.data() + i * 3;
		const auto [end, error] = std::from_chars(first, first + 2, mac[i], 16);
		if (error != std::errc() || end != first + 2 || (i < 5 && first[2] != ':'))
			return std::nullopt;
	}
	return mac;
}

// RFC 5952, without its mixed notation: inet_ntop writes ::ffff:10.0.0.1 (and even ::1:2 with dots), and an
// address must have one text here and where policies are read.
static std::string Ipv6Text(const uint8_t *bytes)
{
	constexpr int groups = 8;
	const auto group = [bytes](int i) { return bytes[2 * i] << 8 | bytes[2 * i + 1]; };
	// The first longest run of two zero groups or more is left out.
	int start = -1;
	int length = 1;
	for (int i = 0; i < groups; i++) {
		int end = i;
		while (end < groups && group(end) == 0)
			end++;
		if (end - i > length) {
			start = i;
			length = end - i;
		}
		i = end;
	}
	std::string text;
	for (int i = 0; i < groups; i++) {
		if (i == start) {
			text += "::";
			i += length - 1;
			continue;
		}
		if (!text.empty() && !text.ends_with(':'))
			text += ':';
		char digits[5];
		snprintf(digits, sizeof(digits), "%x", group(i));
		text += digits;
	}
	return text;
}

std::string AddressText(int family, const void *bytes)
{
	if (family == AF_INET6)
		return Ipv6Text(static_cast<const uint8_t *>(bytes));
	char text[INET_ADDRSTRLEN];
	return inet_ntop(family, bytes, text, sizeof(text)) ? text : "";
}

std::string CidrText(int family, const void *bytes, unsigned prefix)
{
	return AddressText(family, bytes) + "/" + std::to_string(prefix);
}

std::string MacText(const uint8_t *bytes, size_t length)
{
	static const char digits[] = "0123456789abcdef";
	std::string text;
	for (size_t i = 0; i < length; i++) {
		if (i)
			text += ':';
		text += digits[bytes[i] >> 4];
		text += digits[bytes[i] & 15];
	}
	return text;
}

} // namespace tortie
