// How kernel calls fail here: one record with everything that is known, turned into a JavaScript Error on the
// main thread.
#pragma once
#include <napi.h>
#include <exception>
#include <string>

namespace tortie
{

// What a failed call says. `object` is what was tried, on what; `extack` the kernel's own text, if it gave
// one.
struct Failure {
	int number = 0;
	std::string syscall;
	std::string object;
	std::string extack;
	// Name and words of `number`; empty: the C library's. Set where the number isn't an errno (ipset) or
	// says too little (a bad argument).
	std::string code;
	std::string text;
};

// A Failure on its way up the stack.
class KernelError : public std::exception
{
      public:
	explicit KernelError(Failure failure);
	const char *what() const noexcept override;

	Failure failure;
};

// An argument that can't be put on the wire. `argument` is its name in the request.
class BadArgument : public std::exception
{
      public:
	BadArgument(std::string argument, std::string reason);
	const char *what() const noexcept override;

	std::string argument;
	std::string reason;
};

// A KernelError with errno as it is now.
[[noreturn]] void ThrowErrno(const char *syscall, std::string object);

// The failure of a request that never left, because of a bad argument: EINVAL of `encode`.
Failure FailureOf(const BadArgument &bad, const std::string &object);

// An Error with code, errno, syscall, object and extack, and a message that holds them all.
Napi::Error ToError(Napi::Env env, const Failure &failure);

// Runs `body`; its C++ failures leave as JavaScript exceptions. For every function that JavaScript calls.
template <typename Body> auto Guarded(Napi::Env env, const char *object, Body body)
{
	try {
		return body();
	} catch (const KernelError &error) {
		throw ToError(env, error.failure);
	} catch (const BadArgument &bad) {
		throw ToError(env, FailureOf(bad, object));
	} catch (const Napi::Error &) {
		throw;
	} catch (const std::exception &error) {
		throw Napi::Error::New(env, std::string(object) + ": " + error.what());
	}
}

} // namespace tortie
