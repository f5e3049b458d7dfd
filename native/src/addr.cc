#include "objects.h"
#include <linux/if_addr.h>
#include <linux/rtnetlink.h>

namespace tortie
{

void EncodeAddress(const Args &args, Op &op)
{
	const bool add = op.object == "addr.add";
	const bool del = op.object == "addr.del";
	const IpAddress address = args.Cidr("address");
	const LinkRef link = args.Link("link");
	op.object +=
	    " " + CidrText(address.family, address.bytes.data(), address.prefix) + " dev " + link.text();

	MessageWriter writer(del ? RTM_DELADDR : RTM_NEWADDR, del   ? 0
							      : add ? NLM_F_CREATE | NLM_F_EXCL
								    : NLM_F_CREATE | NLM_F_REPLACE);
	auto *info = writer.Fixed<ifaddrmsg>();
	info->ifa_family = static_cast<uint8_t>(address.family);
	info->ifa_prefixlen = address.prefix;
	writer.SetLink(&info->ifa_index, link);
	writer.Put(IFA_LOCAL, address.bytes.data(), address.size());
	writer.Put(IFA_ADDRESS, address.bytes.data(), address.size());
	if (args.Flag("noDad"))
		writer.PutU32(IFA_FLAGS, IFA_F_NODAD);
	op.messages.push_back(writer.Finish());
}

Message DumpAddresses(const DumpFilter &filter, int family)
{
	MessageWriter writer(RTM_GETADDR, NLM_F_DUMP);
	auto *info = writer.Fixed<ifaddrmsg>();
	info->ifa_family = static_cast<uint8_t>(family);
	if (filter.link)
		writer.SetLink(&info->ifa_index, *filter.link);
	return writer.Finish();
}

Napi::Value DecodeAddress(Napi::Env env, const nlmsghdr *message)
{
	static const struct {
		uint32_t bit;
		const char *name;
	} names[] = {{IFA_F_PERMANENT, "permanent"}, {IFA_F_TENTATIVE, "tentative"},
		     {IFA_F_DADFAILED, "dadfailed"}, {IFA_F_NODAD, "nodad"},
		     {IFA_F_SECONDARY, "secondary"}, {IFA_F_DEPRECATED, "deprecated"}};

	const auto *info = FixedHeader<ifaddrmsg>(message);
	if (!info || (info->ifa_family != AF_INET && info->ifa_family != AF_INET6))
		return env.Undefined();
	const Attributes<IFA_MAX> attributes(message, sizeof(*info));
	const size_t size = AddressSize(info->ifa_family);
	// On a point-to-point device IFA_ADDRESS is the other side.
	const uint8_t *bytes = attributes.Bytes(IFA_LOCAL, size);
	if (!bytes)
		bytes = attributes.Bytes(IFA_ADDRESS, size);
	if (!bytes)
		return env.Undefined();
	Napi::Object address = Napi::Object::New(env);
	address.Set("linkIndex", Napi::Number::New(env, info->ifa_index));
	address.Set("family", Napi::Number::New(env, info->ifa_family == AF_INET ? 4 : 6));
	address.Set("address", CidrText(info->ifa_family, bytes, info->ifa_prefixlen));
	address.Set("scope", ScopeName(info->ifa_scope));
	const uint32_t flags = attributes.U32(IFA_FLAGS).value_or(info->ifa_flags);
	Napi::Array list = Napi::Array::New(env);
	for (const auto &[bit, name] : names)
		if (flags & bit)
			list.Set(list.Length(), name);
	address.Set("flags", list);
	return address;
}

} // namespace tortie
