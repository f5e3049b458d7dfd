// A loaded program: what it is, and running it on a packet of ours.
#include "bpf.h"
#include "args.h"
#include "netns.h"
#include "own_thread.h"
#include "worker.h"
#include <bpf/bpf.h>
#include <algorithm>
#include <cerrno>
#include <cstring>
#include <memory>

namespace tortie
{
namespace
{

// Packets grow in test runs by what a program may put in front.
constexpr size_t growth = 512;
// The kernel writes the whole context, however much of it was given; its structures have some 200 bytes.
constexpr size_t contextRoom = 1024;

// One run as data: read from JavaScript on its thread, made on any.
struct RunRequest {
	Fd program;
	std::string object;
	std::vector<uint8_t> data, context;
	uint32_t repeat = 1;
	bool isSyscall = false;
	bool liveFrames = false;
	std::optional<std::string> netns;
};

struct Outcome {
	int32_t returned = 0;
	std::vector<uint8_t> data, context;
	uint32_t nanoseconds = 0;
};

Outcome Make(const RunRequest &run)
{
	Outcome outcome;
	LIBBPF_OPTS(bpf_test_run_opts, options);
	if (!run.context.empty()) {
		outcome.context = run.context;
		options.ctx_in = outcome.context.data();
		options.ctx_size_in = static_cast<uint32_t>(outcome.context.size());
	}
	// A syscall program has nothing but its context, which it changes in place.
	if (!run.isSyscall) {
		options.data_in = run.data.data();
		options.data_size_in = static_cast<uint32_t>(run.data.size());
		options.repeat = static_cast<int>(run.repeat);
	}
	if (run.liveFrames)
		options.flags = BPF_F_TEST_XDP_LIVE_FRAMES;
	std::vector<uint8_t> contextOut(std::max(run.context.size(), contextRoom));
	if (!run.isSyscall && !run.liveFrames) {
		outcome.data.resize(run.data.size() + growth);
		options.data_out = outcome.data.data();
		options.data_size_out = static_cast<uint32_t>(outcome.data.size());
		if (!run.context.empty()) {
			options.ctx_out = contextOut.data();
			options.ctx_size_out = static_cast<uint32_t>(contextOut.size());
		}
	}
	if (bpf_prog_test_run_opts(run.program.get(), &options) != 0)
		ThrowErrno("bpf", "run of " + run.object);
	outcome.returned = static_cast<int32_t>(options.retval);
	outcome.nanoseconds = options.duration;
	outcome.data.resize(std::min<size_t>(outcome.data.size(), options.data_size_out));
	if (run.liveFrames)
		outcome.context.clear();
	else if (!run.isSyscall)
		std::copy_n(contextOut.begin(), run.context.size(), outcome.context.begin());
	return outcome;
}

Napi::Value ToValue(Napi::Env env, Outcome &outcome)
{
	Napi::Object result = Napi::Object::New(env);
	result.Set("returned", Napi::Number::New(env, outcome.returned));
	result.Set("data", ToBytes(env, outcome.data));
	result.Set("context", ToBytes(env, outcome.context));
	result.Set("nanoseconds", outcome.nanoseconds);
	return result;
}

class BpfProgram : public Napi::ObjectWrap<BpfProgram>
{
      public:
	static void Init(Napi::Env env, Napi::Object exports)
	{
		exports.Set("BpfProgram", DefineClass(env, "BpfProgram",
						      {
							  InstanceMethod<&BpfProgram::Info>("info"),
							  InstanceMethod<&BpfProgram::TestRun>("testRun"),
							  InstanceMethod<&BpfProgram::Run>("run"),
							  InstanceMethod<&BpfProgram::Close>("close"),
						      }));
	}

	// Owns the descriptor from here on, also if this fails.
	explicit BpfProgram(const Napi::CallbackInfo &info) : Napi::ObjectWrap<BpfProgram>(info)
	{
		Guarded(info.Env(), "program", [&] {
			fd_ = Fd(FdFrom(info[0], "fd"));
			ReadInfo();
		});
	}

      private:
	std::string object() const
	{
		return "program " + name_;
	}

	int fd() const
	{
		if (!fd_) {
			errno = EBADF;
			ThrowErrno("bpf", object() + " (closed)");
		}
		return fd_.get();
	}

	void ReadInfo()
	{
		const auto ask = [this](bpf_prog_info &info) {
			uint32_t length = sizeof(info);
			if (bpf_obj_get_info_by_fd(fd_.get(), &info, &length) != 0)
				ThrowErrno("bpf", "program information of fd " + std::to_string(fd_.get()));
		};
		bpf_prog_info info = {};
		ask(info);
		maps_.resize(info.nr_map_ids);
		bpf_prog_info second = {};
		second.nr_map_ids = static_cast<uint32_t>(maps_.size());
		second.map_ids = reinterpret_cast<uintptr_t>(maps_.data());
		ask(second);
		maps_.resize(std::min<size_t>(maps_.size(), second.nr_map_ids));
		id_ = info.id;
		type_ = info.type;
		verifiedInstructions_ = info.verified_insns;
		name_.assign(info.name, strnlen(info.name, sizeof(info.name)));
		static constexpr char digits[] = "0123456789abcdef";
		for (const uint8_t byte : info.tag) {
			tag_ += digits[byte >> 4];
			tag_ += digits[byte & 15];
		}
	}

	Napi::Value Info(const Napi::CallbackInfo &info)
	{
		return Guarded(info.Env(), "program", [&]() -> Napi::Value {
			Napi::Env env = info.Env();
			Napi::Object out = Napi::Object::New(env);
			out.Set("fd", fd());
			out.Set("id", id_);
			out.Set("type", type_);
			out.Set("name", name_);
			out.Set("tag", tag_);
			out.Set("verifiedInstructions", verifiedInstructions_);
			Napi::Array maps = Napi::Array::New(env, maps_.size());
			for (uint32_t i = 0; i < maps_.size(); i++)
				maps.Set(i, maps_[i]);
			out.Set("mapIds", maps);
			return out;
		});
	}

	RunRequest ReadRun(Napi::Value value)
	{
		const Args args(value, "test run");
		const auto request = value.As<Napi::Object>();
		RunRequest run;
		run.object = object();
		run.isSyscall = type_ == BPF_PROG_TYPE_SYSCALL;
		if (run.isSyscall) {
			for (const char *name : {"data", "repeat", "liveFrames"})
				if (args.Has(name))
					args.Fail(name, "can't be given to a program of type syscall");
		} else {
			run.data = CopyOf(request.Get("data"), "data");
			run.repeat = args.OptionalNumber("repeat", 1, 100'000'000).value_or(1);
			run.liveFrames = args.OptionalFlag("liveFrames").value_or(false);
		}
		if (args.Has("context"))
			run.context = CopyOf(request.Get("context"), "context");
		run.netns = args.OptionalNetns("netns");
		run.program = Duplicate(fd(), object());
		return run;
	}

	// testRun(TestRun): TestResult
	Napi::Value TestRun(const Napi::CallbackInfo &info)
	{
		return Guarded(info.Env(), "program.testRun", [&]() -> Napi::Value {
			const RunRequest run = ReadRun(info[0]);
			Outcome outcome = InNetns(run.netns, [&] { return Make(run); });
			return ToValue(info.Env(), outcome);
		});
	}

	// run(TestRun): Promise<TestResult>
	Napi::Value Run(const Napi::CallbackInfo &info)
	{
		return Guarded(info.Env(), "program.run", [&]() -> Napi::Value {
			auto run = std::make_shared<RunRequest>(ReadRun(info[0]));
			return OnWorker<Outcome>(
			    info.Env(),
			    [run] { return WorkInNetns<Outcome>(run->netns, [&] { return Make(*run); }); },
			    ToValue);
		});
	}

	Napi::Value Close(const Napi::CallbackInfo &info)
	{
		fd_ = Fd();
		return info.Env().Undefined();
	}

	Fd fd_;
	uint32_t id_ = 0;
	uint32_t type_ = 0;
	uint32_t verifiedInstructions_ = 0;
	std::string name_;
	std::string tag_;
	std::vector<uint32_t> maps_;
};

} // namespace

void InitBpfProgram(Napi::Env env, Napi::Object exports)
{
	BpfProgram::Init(env, exports);
}

} // namespace tortie
