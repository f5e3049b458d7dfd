// IP and hardware addresses between text and bytes.
#pragma once
#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>

namespace tortie
{

struct IpAddress {
	int family = 0; // AF_INET or AF_INET6
	std::array<uint8_t, 16> bytes{};
	uint8_t prefix = 0;

	size_t size() const;
	// Length of a full prefix in bits.
	uint8_t bits() const;
};

using Mac = std::array<uint8_t, 6>;

// `10.0.0.1` or `fd00::1`, with the full prefix length.
std::optional<IpAddress> ParseAddress(const std::string &text);
// `10.0.0.0/8`: an address and a prefix length, both required.
std::optional<IpAddress> ParseCidr(const std::string &text);
// `ee:ee:ee:ee:ee:ee`.
std::optional<Mac> ParseMac(const std::string &text);

std::string AddressText(int family, const void *bytes);
std::string CidrText(int family, const void *bytes, unsigned prefix);
// Any length: tunnels have hardware addresses of 4 or 16 bytes.
std::string MacText(const uint8_t *bytes, size_t length);

} // namespace tortie
