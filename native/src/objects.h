// The objects of rtnetlink, one source file each: requests from JavaScript to the wire, messages from the
// wire to JavaScript.
#pragma once
#include "args.h"
#include "batch.h"
#include <libmnl/libmnl.h>
#include <napi.h>
#include <optional>
#include <string>

namespace tortie
{

// Each writes op.object as soon as it is known and throws BadArgument for what can't be put on the wire.
void EncodeVethAdd(const Args &args, Op &op);
void EncodeBridgeAdd(const Args &args, Op &op);
void EncodeLinkSet(const Args &args, Op &op);
void EncodeLinkDel(const Args &args, Op &op);
void EncodeLinkGroupDel(const Args &args, Op &op);
void EncodeXdp(const Args &args, Op &op);
void EncodeAddress(const Args &args, Op &op);
void EncodeRoute(const Args &args, Op &op);
void EncodeNeighbour(const Args &args, Op &op);
void EncodeClsact(const Args &args, Op &op);
void EncodeFilter(const Args &args, Op &op);

// The Link, Address, ... of types.ts. The message is of the right type; undefined: not an object that is
// shown.
Napi::Value DecodeLink(Napi::Env env, const nlmsghdr *message);
Napi::Value DecodeAddress(Napi::Env env, const nlmsghdr *message);
Napi::Value DecodeRoute(Napi::Env env, const nlmsghdr *message);
Napi::Value DecodeNeighbour(Napi::Env env, const nlmsghdr *message);
Napi::Value DecodeFilter(Napi::Env env, const nlmsghdr *message);
// The ifindex of a qdisc's or filter's device.
Napi::Value DecodeTcDevice(Napi::Env env, const nlmsghdr *message);
Napi::Value DecodeQdisc(Napi::Env env, const nlmsghdr *message);
// True if the message is a clsact qdisc of this device.
bool IsClsact(const nlmsghdr *message, uint32_t linkIndex);

// Requests of dumps; filters in them are obeyed by kernels with strict checking (4.20).
struct DumpFilter {
	std::optional<int> family;
	std::optional<uint32_t> table;
	std::optional<uint32_t> protocol;
	std::optional<LinkRef> link;
	std::optional<bool> proxy;
	bool egress = false;
};
Message GetLinkRequest(const LinkRef &link);
Message DumpLinks();
Message DumpAddresses(const DumpFilter &filter, int family);
Message DumpRoutes(const DumpFilter &filter, int family);
Message DumpNeighbours(const DumpFilter &filter, bool proxy);
Message DumpFilters(const DumpFilter &filter);
Message DumpQdiscs();

// `scope` of addresses and routes.
const char *ScopeName(uint8_t scope);

// The attributes of one message or nest, by type, checked for length where they are read.
template <int Max> class Attributes
{
      public:
	Attributes(const nlmsghdr *message, size_t offset)
	{
		if (mnl_nlmsg_get_payload_len(message) >= offset)
			mnl_attr_parse(message, offset, Keep, this);
	}
	explicit Attributes(const nlattr *nest)
	{
		if (nest)
			mnl_attr_parse_nested(nest, Keep, this);
	}
	const nlattr *operator[](int type) const
	{
		return at_[type];
	}
	std::optional<uint32_t> U32(int type) const
	{
		if (!at_[type] || mnl_attr_get_payload_len(at_[type]) < sizeof(uint32_t))
			return std::nullopt;
		return mnl_attr_get_u32(at_[type]);
	}
	std::optional<std::string> Text(int type) const
	{
		if (!at_[type] || mnl_attr_validate(at_[type], MNL_TYPE_STRING) < 0)
			return std::nullopt;
		const char *text = mnl_attr_get_str(at_[type]);
		return std::string(text, strnlen(text, mnl_attr_get_payload_len(at_[type])));
	}
	// The bytes, if there are at least `size` of them.
	const uint8_t *Bytes(int type, size_t size) const
	{
		if (!at_[type] || mnl_attr_get_payload_len(at_[type]) < size)
			return nullptr;
		return static_cast<const uint8_t *>(mnl_attr_get_payload(at_[type]));
	}

      private:
	static int Keep(const nlattr *attribute, void *self)
	{
		const uint16_t type = mnl_attr_get_type(attribute);
		if (type <= Max)
			static_cast<Attributes *>(self)->at_[type] = attribute;
		return MNL_CB_OK;
	}

	const nlattr *at_[Max + 1] = {};
};

// The fixed header of a message, or nullptr when it is too short.
template <typename Header> const Header *FixedHeader(const nlmsghdr *message)
{
	if (mnl_nlmsg_get_payload_len(message) < sizeof(Header))
		return nullptr;
	return static_cast<const Header *>(mnl_nlmsg_get_payload(message));
}

// Bytes of an address of the family.
inline size_t AddressSize(int family)
{
	return family == AF_INET ? 4 : 16;
}

} // namespace tortie
