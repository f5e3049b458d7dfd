// A loaded program: what it is, and running it on a packet of ours.
#include "bpf.h"
#include "args.h"
#include "netns.h"
#include <bpf/bpf.h>
#include <cerrno>
#include <cstring>

namespace tortie
{
namespace
{

// Packets grow in test runs by what a program may put in front.
constexpr size_t growth = 512;

class BpfProgram : public Napi::ObjectWrap<BpfProgram>
{
      public:
	static void Init(Napi::Env env, Napi::Object exports)
	{
		exports.Set("BpfProgram", DefineClass(env, "BpfProgram",
						      {
							  InstanceMethod<&BpfProgram::Info>("info"),
							  InstanceMethod<&BpfProgram::TestRun>("testRun"),
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
			Napi::Array maps = Napi::Array::New(env, maps_.size());
			for (uint32_t i = 0; i < maps_.size(); i++)
				maps.Set(i, maps_[i]);
			out.Set("mapIds", maps);
			return out;
		});
	}

	// testRun({data, context?, repeat?, netns?}): {returned, data, context, nanoseconds}
	Napi::Value TestRun(const Napi::CallbackInfo &info)
	{
		return Guarded(info.Env(), "program.testRun", [&]() -> Napi::Value {
			Napi::Env env = info.Env();
			const Args args(info[0], "test run");
			const auto request = info[0].As<Napi::Object>();
			const auto data = CopyOf(request.Get("data"), "data");
			std::vector<uint8_t> context, contextOut;
			if (args.Has("context")) {
				context = CopyOf(request.Get("context"), "context");
				contextOut.resize(context.size());
			}
			std::vector<uint8_t> out(data.size() + growth);
			LIBBPF_OPTS(bpf_test_run_opts, options);
			options.data_in = data.data();
			options.data_size_in = static_cast<uint32_t>(data.size());
			options.data_out = out.data();
			options.data_size_out = static_cast<uint32_t>(out.size());
			if (!context.empty()) {
				options.ctx_in = context.data();
				options.ctx_size_in = static_cast<uint32_t>(context.size());
				options.ctx_out = contextOut.data();
				options.ctx_size_out = static_cast<uint32_t>(contextOut.size());
			}
			options.repeat =
			    static_cast<int>(args.OptionalNumber("repeat", 1, 10'000'000).value_or(1));
			const int program = fd();
			InNetns(args.OptionalNetns("netns"), [&] {
				if (bpf_prog_test_run_opts(program, &options) != 0)
					ThrowErrno("bpf", "test run of " + object());
			});
			Napi::Object result = Napi::Object::New(env);
			result.Set("returned", Napi::Number::New(env, static_cast<int32_t>(options.retval)));
			result.Set(
			    "data",
			    ToBytes(env, {out.data(), std::min<size_t>(out.size(), options.data_size_out)}));
			result.Set("context", ToBytes(env, contextOut));
			result.Set("nanoseconds", options.duration);
			return result;
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
