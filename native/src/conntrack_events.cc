#include "args.h"
#include "conntrack_objects.h"
#include "conntrack_values.h"
#include "event_reader.h"
#include "netns.h"
#include <linux/netfilter/nfnetlink.h>
#include <linux/netlink.h>

namespace tortie
{

namespace
{

constexpr const char *object = "conntrack.events";

// Room for some 30,000 events while the process is busy.
constexpr uint32_t defaultReceiveBuffer = 32 << 20;

constexpr struct {
	const char *type;
	int group;
} groups[] = {{"new", NFNLGRP_CONNTRACK_NEW},
	      {"update", NFNLGRP_CONNTRACK_UPDATE},
	      {"destroy", NFNLGRP_CONNTRACK_DESTROY}};

std::vector<int> ReadGroups(const Args &options)
{
	std::vector<int> numbers;
	if (!options.Has("types")) {
		for (const auto &known : groups)
			numbers.push_back(known.group);
		return numbers;
	}
	const Napi::Array types = options.Array("types");
	for (uint32_t i = 0; i < types.Length(); i++) {
		const Napi::Value item = types.Get(i);
		const std::string type = item.IsString() ? item.As<Napi::String>().Utf8Value() : "";
		for (const auto &known : groups)
			if (type == known.type)
				numbers.push_back(known.group);
		if (numbers.size() != i + 1)
			options.Fail("types", Describe(item) + " is none of new, update, destroy");
	}
	return numbers;
}

class ConntrackEventSocket : public Napi::ObjectWrap<ConntrackEventSocket>
{
      public:
	static Napi::Function Define(Napi::Env env)
	{
		return DefineClass(env, "ConntrackEventSocket",
				   {
				       InstanceMethod<&ConntrackEventSocket::Wait>("wait"),
				       InstanceMethod<&ConntrackEventSocket::Read>("read"),
				       InstanceMethod<&ConntrackEventSocket::Close>("close"),
				   });
	}

	// new ConntrackEventSocket(options, netns?)
	explicit ConntrackEventSocket(const Napi::CallbackInfo &info)
	    : Napi::ObjectWrap<ConntrackEventSocket>(info)
	{
		Guarded(info.Env(), object, [&] {
			const Args options(info[0], "options");
			const auto numbers = ReadGroups(options);
			const auto buffer =
			    static_cast<int>(options.OptionalNumber("receiveBuffer", 1, INT32_MAX / 2)
						 .value_or(defaultReceiveBuffer));
			const auto netns = NetnsFromValue(info[1], "netns");
			auto socket = InNetns(netns, [&] {
				return OpenEventSocket(NETLINK_NETFILTER, numbers, buffer, object);
			});
			reader_ = std::make_unique<EventReader>(info.Env(), std::move(socket), object);
		});
	}

      private:
	// wait(callback): calls it once, when there is something to read.
	void Wait(const Napi::CallbackInfo &info)
	{
		Guarded(info.Env(), object, [&] { reader_->Wait(info[0]); });
	}

	// read(): {rows, lost}; `lost` comes after the rows.
	Napi::Value Read(const Napi::CallbackInfo &info)
	{
		return Guarded(info.Env(), object, [&]() -> Napi::Value {
			ConntrackRowWriter writer(info.Env());
			const bool lost = reader_->Read([&](const nlmsghdr *message) {
				if (const auto record = DecodeConntrack(message))
					writer.Add(*record);
			});
			Napi::Object out = Napi::Object::New(info.Env());
			out.Set("rows", writer.rows());
			out.Set("lost", Napi::Boolean::New(info.Env(), lost));
			return out;
		});
	}

	void Close(const Napi::CallbackInfo &)
	{
		reader_->Close();
	}

	std::unique_ptr<EventReader> reader_;
};

} // namespace

void InitConntrackEvents(Napi::Env env, Napi::Object exports)
{
	exports.Set("ConntrackEventSocket", ConntrackEventSocket::Define(env));
}

} // namespace tortie
