// One netlink request while it is written. libmnl puts the bytes; this adds bounds checks and devices that
// are known by name only.
#pragma once
#include "args.h"
#include <cstdint>
#include <libmnl/libmnl.h>
#include <string>
#include <vector>

namespace tortie
{

// True if a whole message is there. libmnl's own check takes a length from 2 GiB on for a negative one.
inline bool IsWholeMessage(const nlmsghdr *message, int rest)
{
	return mnl_nlmsg_ok(message, rest) && message->nlmsg_len <= static_cast<uint32_t>(rest);
}

// A finished request. `names` are ifindexes to fill in before it is sent.
struct Message {
	struct Name {
		size_t offset;
		std::string name;
	};

	std::vector<uint8_t> bytes;
	std::vector<Name> names;

	nlmsghdr *header()
	{
		return reinterpret_cast<nlmsghdr *>(bytes.data());
	}
};

class MessageWriter
{
      public:
	MessageWriter(uint16_t type, uint16_t flags);
	MessageWriter(const MessageWriter &) = delete;
	MessageWriter &operator=(const MessageWriter &) = delete;

	// The family's fixed header, zeroed; also a nested one (a veth's peer has an ifinfomsg of its own).
	template <typename Header> Header *Fixed()
	{
		return static_cast<Header *>(mnl_nlmsg_put_extra_header(header_, sizeof(Header)));
	}
	void Put(uint16_t type, const void *data, size_t length);
	void PutString(uint16_t type, const std::string &text);
	void PutU8(uint16_t type, uint8_t value);
	void PutU32(uint16_t type, uint32_t value);
	// An ifindex, or the device that has this name when the request is sent.
	void PutLink(uint16_t type, const LinkRef &link);
	nlattr *Nest(uint16_t type);
	void EndNest(nlattr *nest);
	// True if `length` more bytes fit.
	bool HasRoom(size_t length) const
	{
		return header_->nlmsg_len + length <= capacity;
	}
	// Fills a field of a fixed header in the same way. (A template: ifi_index is signed in one header and
	// not in another.)
	template <typename Field> void SetLink(Field *field, const LinkRef &link)
	{
		static_assert(sizeof(Field) == 4);
		if (link.name.empty())
			*field = static_cast<Field>(link.index);
		else
			names_.push_back(
			    {static_cast<size_t>(reinterpret_cast<char *>(field) - buffer_), link.name});
	}
	Message Finish();

      private:
	// A veth with both ends' names, alias and MACs is below 1 KiB; members of sets go many to a message.
	static constexpr size_t capacity = 16384;

	alignas(NLMSG_ALIGNTO) char buffer_[capacity];
	nlmsghdr *header_;
	std::vector<Message::Name> names_;
};

} // namespace tortie
