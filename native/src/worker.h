// Kernel calls that may wait, on a thread of libuv's pool. The work never enters another namespace and sees
// no JavaScript.
#pragma once
#include "errors.h"
#include <functional>
#include <napi.h>
#include <optional>
#include <utility>

namespace tortie
{

template <typename Result> class Work : public Napi::AsyncWorker
{
      public:
	Work(Napi::Env env, std::function<Result()> work,
	     std::function<Napi::Value(Napi::Env, Result &)> done)
	    : Napi::AsyncWorker(env), deferred_(Napi::Promise::Deferred::New(env)), work_(std::move(work)),
	      done_(std::move(done))
	{
	}

	Napi::Promise Promise() const
	{
		return deferred_.Promise();
	}

      protected:
	void Execute() override
	{
		try {
			result_ = work_();
		} catch (const KernelError &error) {
			failure_ = error.failure;
		} catch (const std::exception &error) {
			SetError(error.what());
		}
	}

	void OnOK() override
	{
		if (failure_) {
			deferred_.Reject(ToError(Env(), *failure_).Value());
			return;
		}
		try {
			deferred_.Resolve(done_(Env(), *result_));
		} catch (const Napi::Error &error) {
			deferred_.Reject(error.Value());
		}
	}

	void OnError(const Napi::Error &error) override
	{
		deferred_.Reject(error.Value());
	}

      private:
	Napi::Promise::Deferred deferred_;
	std::function<Result()> work_;
	std::function<Napi::Value(Napi::Env, Result &)> done_;
	std::optional<Result> result_;
	std::optional<Failure> failure_;
};

// Runs `work` on a worker thread and `done` with its result on the main thread; a promise of what `done`
// returns.
template <typename Result>
Napi::Promise OnWorker(Napi::Env env, std::function<Result()> work,
		       std::function<Napi::Value(Napi::Env, Result &)> done)
{
	auto *task = new Work<Result>(env, std::move(work), std::move(done));
	const Napi::Promise promise = task->Promise();
	task->Queue();
	return promise;
}

} // namespace tortie
