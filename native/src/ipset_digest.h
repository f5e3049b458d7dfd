// One value for the members of a set, whatever their order. The same as native/ipset-digest.ts.
#pragma once
#include <cstdint>
#include <string>

namespace tortie
{

class IpsetDigest
{
      public:
	void Add(const std::string &member)
	{
		a_ += Hash(member, 0x811c9dc5);
		b_ += Hash(member, 0x9747b28c);
		count_++;
	}

	std::string Text() const
	{
		return std::to_string(count_) + " " + std::to_string(a_) + " " + std::to_string(b_);
	}

      private:
	// FNV-1a, and the final mix of MurmurHash3.
	static uint32_t Hash(const std::string &text, uint32_t value)
	{
		for (const unsigned char byte : text)
			value = (value ^ byte) * 0x01000193;
		value = (value ^ value >> 16) * 0x85ebca6b;
		value = (value ^ value >> 13) * 0xc2b2ae35;
		return value ^ value >> 16;
	}

	uint32_t a_ = 0;
	uint32_t b_ = 0;
	uint32_t count_ = 0;
};

} // namespace tortie
