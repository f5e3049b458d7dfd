// Reads a request's fields, checking each: whatever JavaScript passes, the outcome is a value of the right
// form or a BadArgument that names the field.
#pragma once
#include "address.h"
#include "errors.h"
#include "fd.h"
#include <napi.h>
#include <optional>
#include <string>

namespace tortie
{

// A device by ifindex, or by a name that is looked up in the socket's namespace when the request is sent.
struct LinkRef {
	uint32_t index = 0;
	std::string name;

	std::string text() const;
};

class Args
{
      public:
	// `value` must be an object.
	explicit Args(Napi::Value value, std::string path = "");

	bool Has(const char *name) const;
	// Text without NUL bytes, 1 to `limit` bytes long.
	std::string String(const char *name, size_t limit = 4096) const;
	std::optional<std::string> OptionalString(const char *name, size_t limit = 4096) const;
	uint32_t Number(const char *name, uint32_t least = 0, uint32_t most = UINT32_MAX) const;
	std::optional<uint32_t> OptionalNumber(const char *name, uint32_t least = 0,
					       uint32_t most = UINT32_MAX) const;
	bool Flag(const char *name) const;
	std::optional<bool> OptionalFlag(const char *name) const;
	// A name as the kernel allows for devices.
	std::string DeviceName(const char *name) const;
	LinkRef Link(const char *name) const;
	std::optional<LinkRef> OptionalLink(const char *name) const;
	// A device, or 0 for none (an empty LinkRef).
	std::optional<LinkRef> OptionalLinkOrNone(const char *name) const;
	std::optional<Mac> OptionalMac(const char *name) const;
	IpAddress Address(const char *name) const;
	IpAddress Cidr(const char *name) const;
	// AF_INET or AF_INET6 for 4 or 6.
	std::optional<int> OptionalFamily(const char *name) const;
	// The namespace's path, from {path} or {pid}.
	std::optional<std::string> OptionalNetns(const char *name) const;
	Args Object(const char *name) const;
	Napi::Array Array(const char *name) const;

	[[noreturn]] void Fail(const char *name, const std::string &reason) const;

      private:
	Napi::Value Get(const char *name) const;

	Napi::Object object_;
	std::string path_;
};

// A value for messages: strings quoted and shortened, other types by name.
std::string Describe(Napi::Value value);

// A LinkRef outside an object; `what` names it in the error.
LinkRef LinkFromValue(Napi::Value value, const std::string &what);

// The namespace's path from a NetnsRef, or nothing for undefined.
std::optional<std::string> NetnsFromValue(Napi::Value value, const std::string &what);

} // namespace tortie
