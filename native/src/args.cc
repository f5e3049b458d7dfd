#include "args.h"
#include <cmath>
#include <net/if.h>
#include <sys/socket.h>

namespace tortie
{

std::string LinkRef::text() const
{
	return name.empty() ? "#" + std::to_string(index) : name;
}

std::string Describe(Napi::Value value)
{
	if (value.IsString()) {
		std::string text = value.As<Napi::String>().Utf8Value();
		if (text.size() > 60)
			text = text.substr(0, 57) + "...";
		for (char &c : text)
			if (static_cast<unsigned char>(c) < ' ')
				c = '?';
		return "'" + text + "'";
	}
	if (value.IsNumber()) {
		const double number = value.As<Napi::Number>().DoubleValue();
		if (number == std::floor(number) && std::fabs(number) < 1e15)
			return std::to_string(static_cast<int64_t>(number));
		return std::to_string(number);
	}
	if (value.IsUndefined())
		return "nothing";
	if (value.IsNull())
		return "null";
	if (value.IsArray())
		return "an array";
	if (value.IsFunction())
		return "a function";
	if (value.IsObject())
		return "an object";
	if (value.IsBoolean())
		return value.As<Napi::Boolean>().Value() ? "true" : "false";
	return "a value of another type";
}

Args::Args(Napi::Value value, std::string path) : path_(std::move(path))
{
	if (!value.IsObject() || value.IsFunction())
		throw BadArgument(path_, "must be an object, not " + Describe(value));
	object_ = value.As<Napi::Object>();
}

void Args::Fail(const char *name, const std::string &reason) const
{
	throw BadArgument(path_.empty() ? name : path_ + "." + name, reason);
}

Napi::Value Args::Get(const char *name) const
{
	return object_.Get(name);
}

bool Args::Has(const char *name) const
{
	return !Get(name).IsUndefined();
}

std::optional<std::string> Args::OptionalString(const char *name, size_t limit) const
{
	const Napi::Value value = Get(name);
	if (value.IsUndefined())
		return std::nullopt;
	if (!value.IsString())
		Fail(name, "must be text, not " + Describe(value));
	std::string text = value.As<Napi::String>().Utf8Value();
	if (text.empty() || text.size() > limit || text.find('\0') != std::string::npos)
		Fail(name,
		     Describe(value) + " must have 1 to " + std::to_string(limit) + " bytes and no NUL");
	return text;
}

std::string Args::String(const char *name, size_t limit) const
{
	auto text = OptionalString(name, limit);
	if (!text)
		Fail(name, "is missing");
	return *text;
}

std::optional<uint32_t> Args::OptionalNumber(const char *name, uint32_t least, uint32_t most) const
{
	const Napi::Value value = Get(name);
	if (value.IsUndefined())
		return std::nullopt;
	const double number = value.IsNumber() ? value.As<Napi::Number>().DoubleValue() : NAN;
	if (!(number >= least && number <= most) || number != std::floor(number))
		Fail(name, "must be a whole number from " + std::to_string(least) + " to " +
			       std::to_string(most) + ", not " + Describe(value));
	return static_cast<uint32_t>(number);
}

uint32_t Args::Number(const char *name, uint32_t least, uint32_t most) const
{
	const auto number = OptionalNumber(name, least, most);
	if (!number)
		Fail(name, "is missing");
	return *number;
}

std::optional<bool> Args::OptionalFlag(const char *name) const
{
	const Napi::Value value = Get(name);
	if (value.IsUndefined())
		return std::nullopt;
	if (!value.IsBoolean())
		Fail(name, "must be true or false, not " + Describe(value));
	return value.As<Napi::Boolean>().Value();
}

bool Args::Flag(const char *name) const
{
	return OptionalFlag(name).value_or(false);
}

// dev_valid_name() in net/core/dev.c.
static std::optional<std::string> DeviceNameProblem(const std::string &name)
{
	if (name.empty() || name.size() >= IFNAMSIZ)
		return "must have 1 to 15 bytes";
	if (name == "." || name == "..")
		return "is not allowed";
	for (const char c : name)
		if (c == '/' || c == ':' || c == '\0' || (c >= '\t' && c <= '\r') || c == ' ')
			return "must hold no slash, colon, space or NUL";
	return std::nullopt;
}

std::string Args::DeviceName(const char *name) const
{
	const Napi::Value value = Get(name);
	if (value.IsUndefined())
		Fail(name, "is missing");
	if (!value.IsString())
		Fail(name, "must be a device's name, not " + Describe(value));
	std::string text = value.As<Napi::String>().Utf8Value();
	if (const auto problem = DeviceNameProblem(text))
		Fail(name, "device name " + Describe(value) + " " + *problem);
	return text;
}

LinkRef LinkFromValue(Napi::Value value, const std::string &what)
{
	LinkRef link;
	if (value.IsNumber()) {
		const double number = value.As<Napi::Number>().DoubleValue();
		if (!(number >= 1 && number <= INT32_MAX) || number != std::floor(number))
			throw BadArgument(what, "must be an ifindex from 1 on, not " + Describe(value));
		link.index = static_cast<uint32_t>(number);
		return link;
	}
	if (!value.IsString())
		throw BadArgument(what, "must be a device's name or ifindex, not " + Describe(value));
	link.name = value.As<Napi::String>().Utf8Value();
	if (const auto problem = DeviceNameProblem(link.name))
		throw BadArgument(what, "device name " + Describe(value) + " " + *problem);
	return link;
}

std::optional<LinkRef> Args::OptionalLink(const char *name) const
{
	const Napi::Value value = Get(name);
	if (value.IsUndefined())
		return std::nullopt;
	return LinkFromValue(value, path_.empty() ? name : path_ + "." + name);
}

std::optional<LinkRef> Args::OptionalLinkOrNone(const char *name) const
{
	const Napi::Value value = Get(name);
	if (value.IsNumber() && value.As<Napi::Number>().DoubleValue() == 0)
		return LinkRef();
	return OptionalLink(name);
}

LinkRef Args::Link(const char *name) const
{
	auto link = OptionalLink(name);
	if (!link)
		Fail(name, "is missing");
	return *link;
}

std::optional<Mac> Args::OptionalMac(const char *name) const
{
	const auto text = OptionalString(name, 64);
	if (!text)
		return std::nullopt;
	auto mac = ParseMac(*text);
	if (!mac)
		Fail(name, Describe(Get(name)) + " is not a MAC address such as 0a:58:0a:41:00:01");
	return mac;
}

IpAddress Args::Address(const char *name) const
{
	auto address = ParseAddress(String(name));
	if (!address)
		Fail(name, Describe(Get(name)) + " is not an IPv4 or IPv6 address");
	return *address;
}

IpAddress Args::Cidr(const char *name) const
{
	auto address = ParseCidr(String(name));
	if (!address)
		Fail(name, Describe(Get(name)) + " is not an IPv4 or IPv6 address with prefix length");
	return *address;
}

std::optional<int> Args::OptionalFamily(const char *name) const
{
	const auto family = OptionalNumber(name);
	if (!family)
		return std::nullopt;
	if (*family != 4 && *family != 6)
		Fail(name, "must be 4 or 6, not " + std::to_string(*family));
	return *family == 4 ? AF_INET : AF_INET6;
}

std::optional<std::string> NetnsFromValue(Napi::Value value, const std::string &what)
{
	if (value.IsUndefined())
		return std::nullopt;
	const Args ref(value, what);
	if (ref.Has("pid") == ref.Has("path"))
		throw BadArgument(what, "must have either a path or a pid");
	if (const auto pid = ref.OptionalNumber("pid", 1, INT32_MAX))
		return "/proc/" + std::to_string(*pid) + "/ns/net";
	return ref.String("path");
}

std::optional<std::string> Args::OptionalNetns(const char *name) const
{
	return NetnsFromValue(Get(name), path_.empty() ? name : path_ + "." + name);
}

Args Args::Object(const char *name) const
{
	return Args(Get(name), path_.empty() ? name : path_ + "." + name);
}

Napi::Array Args::Array(const char *name) const
{
	const Napi::Value value = Get(name);
	if (!value.IsArray())
		Fail(name, "must be an array, not " + Describe(value));
	return value.As<Napi::Array>();
}

} // namespace tortie
