// Work in another network namespace that may wait: on a thread of its own that enters it for good and ends
// with the work. libuv's threads never change namespace.
#pragma once
#include "netns.h"
#include <exception>
#include <functional>
#include <optional>
#include <sched.h>
#include <string>
#include <thread>

namespace tortie
{

// Moves the calling thread, which must end with its work.
inline void EnterForGood(const std::string &netns)
{
	const Fd target = OpenNetns(netns);
	if (setns(target.get(), CLONE_NEWNET) != 0)
		ThrowErrno("setns", "netns " + netns);
}

// Runs `work` in the namespace and waits for it; where the thread is if there is no path. Its failures are
// thrown here.
template <typename Result>
Result WorkInNetns(const std::optional<std::string> &netns, const std::function<Result()> &work)
{
	if (!netns)
		return work();
	std::optional<Result> result;
	std::exception_ptr failure;
	std::thread([&] {
		try {
			EnterForGood(*netns);
			result.emplace(work());
		} catch (...) {
			failure = std::current_exception();
		}
	}).join();
	if (failure)
		std::rethrow_exception(failure);
	return std::move(*result);
}

} // namespace tortie
