#include "errors.h"
#include <cerrno>
#include <cstring>
#include <utility>

namespace tortie
{

KernelError::KernelError(Failure failure) : failure(std::move(failure))
{
}

const char *KernelError::what() const noexcept
{
	return failure.object.c_str();
}

BadArgument::BadArgument(std::string argument, std::string reason)
    : argument(std::move(argument)), reason(std::move(reason))
{
}

const char *BadArgument::what() const noexcept
{
	return reason.c_str();
}

void ThrowErrno(const char *syscall, std::string object)
{
	Failure failure;
	failure.number = errno;
	failure.syscall = syscall;
	failure.object = std::move(object);
	throw KernelError(std::move(failure));
}

Failure FailureOf(const BadArgument &bad, const std::string &object)
{
	Failure failure;
	failure.number = EINVAL;
	failure.syscall = "encode";
	failure.object = object;
	failure.text = bad.argument.empty() ? bad.reason : bad.argument + ": " + bad.reason;
	return failure;
}

static std::string CodeOf(const Failure &failure)
{
	if (!failure.code.empty())
		return failure.code;
	const char *name = strerrorname_np(failure.number);
	return name ? name : "E" + std::to_string(failure.number);
}

static std::string TextOf(const Failure &failure)
{
	if (!failure.text.empty())
		return failure.text;
	const char *text = strerrordesc_np(failure.number);
	return text ? text : "unknown error " + std::to_string(failure.number);
}

Napi::Error ToError(Napi::Env env, const Failure &failure)
{
	const std::string code = CodeOf(failure);
	std::string message = failure.object + ": " + code + ": " + TextOf(failure) + " (" + failure.syscall;
	if (!failure.extack.empty())
		message += "; kernel: " + failure.extack;
	message += ")";
	Napi::Error error = Napi::Error::New(env, message);
	error.Set("code", Napi::String::New(env, code));
	error.Set("errno", Napi::Number::New(env, failure.number));
	error.Set("syscall", Napi::String::New(env, failure.syscall));
	error.Set("object", Napi::String::New(env, failure.object));
	if (!failure.extack.empty())
		error.Set("extack", Napi::String::New(env, failure.extack));
	return error;
}

} // namespace tortie
