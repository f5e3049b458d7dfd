#include "bpf.h"
#include <fcntl.h>
#include <algorithm>

namespace tortie
{

Fd Duplicate(int fd, const std::string &object)
{
	Fd copy(fcntl(fd, F_DUPFD_CLOEXEC, 3));
	if (!copy)
		ThrowErrno("fcntl", object);
	return copy;
}

std::span<uint8_t> Bytes(Napi::Value value, const char *what, size_t length)
{
	if (!value.IsTypedArray() || value.As<Napi::TypedArray>().TypedArrayType() != napi_uint8_array)
		throw BadArgument(what, "must be a Uint8Array");
	auto array = value.As<Napi::Uint8Array>();
	if (length != 0 && array.ByteLength() != length)
		throw BadArgument(what, "has " + std::to_string(array.ByteLength()) + " bytes, not " +
					    std::to_string(length));
	return {array.Data(), array.ByteLength()};
}

std::vector<uint8_t> CopyOf(Napi::Value value, const char *what, size_t length)
{
	const auto bytes = Bytes(value, what, length);
	return {bytes.begin(), bytes.end()};
}

Napi::Value ToBytes(Napi::Env env, std::span<const uint8_t> bytes)
{
	auto array = Napi::Uint8Array::New(env, bytes.size());
	std::copy(bytes.begin(), bytes.end(), array.Data());
	return array;
}

int FdFrom(Napi::Value value, const char *what)
{
	const double number = value.IsNumber() ? value.As<Napi::Number>().DoubleValue() : -1;
	if (number < 0 || number > INT32_MAX || number != static_cast<int>(number))
		throw BadArgument(what, "must be an open file descriptor");
	return static_cast<int>(number);
}

void InitBpf(Napi::Env env, Napi::Object exports)
{
	InitBpfMap(env, exports);
	InitBpfProgram(env, exports);
	InitBpfObject(env, exports);
	InitBpfProbe(env, exports);
	InitBpfGrace(env, exports);
	InitBpfLink(env, exports);
	InitBpfAttached(env, exports);
	InitBpfRing(env, exports);
}

} // namespace tortie
