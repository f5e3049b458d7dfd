#include "args.h"
#include "conntrack_objects.h"
#include "conntrack_values.h"
#include "netns.h"
#include "worker.h"
#include <linux/netfilter/nfnetlink_conntrack.h>
#include <linux/netlink.h>

namespace tortie
{

namespace
{

// A chunk ends with the datagram (32 KiB at most, some 150 entries) that reaches so many.
constexpr size_t entriesPerChunk = 1024;

struct Chunk {
	std::vector<ConntrackRecord> records;
	bool end = false;
};

void Decode(const nlmsghdr *message, std::vector<ConntrackRecord> &records)
{
	if (auto record = DecodeConntrack(message))
		records.push_back(std::move(*record));
}

Napi::Array ToRows(Napi::Env env, const std::vector<ConntrackRecord> &records)
{
	ConntrackRowWriter writer(env);
	for (const ConntrackRecord &record : records)
		writer.Add(record);
	return writer.rows();
}

// Where the dump under way is; read by one worker at a time.
struct DumpProgress {
	uint32_t sequence = 0;
	bool interrupted = false;
};

Chunk ReadChunk(Socket &socket, DumpProgress &progress)
{
	Chunk chunk;
	while (!chunk.end && chunk.records.size() < entriesPerChunk) {
		const auto part =
		    socket.NextOfDump(progress.sequence, "conntrack.dump", [&](const nlmsghdr *message) {
			    // Of a dump that was interrupted nobody wants the rest.
			    if (!progress.interrupted)
				    Decode(message, chunk.records);
		    });
		progress.interrupted |= part.interrupted;
		chunk.end = part.end;
	}
	return chunk;
}

class ConntrackDumpSocket : public Napi::ObjectWrap<ConntrackDumpSocket>
{
      public:
	static Napi::Function Define(Napi::Env env)
	{
		return DefineClass(env, "ConntrackDumpSocket",
				   {
				       InstanceMethod<&ConntrackDumpSocket::Start>("start"),
				       InstanceMethod<&ConntrackDumpSocket::Read>("read"),
				       InstanceMethod<&ConntrackDumpSocket::Close>("close"),
				   });
	}

	// new ConntrackDumpSocket(netns?)
	explicit ConntrackDumpSocket(const Napi::CallbackInfo &info)
	    : Napi::ObjectWrap<ConntrackDumpSocket>(info)
	{
		Guarded(info.Env(), "conntrack.dump", [&] {
			const auto netns = NetnsFromValue(info[0], "netns");
			socket_ = InNetns(netns, [] { return Socket::Open(NETLINK_NETFILTER); });
		});
	}

      private:
	// start(family): the kernel fills the first datagram, no more.
	void Start(const Napi::CallbackInfo &info)
	{
		Guarded(info.Env(), "conntrack.dump", [&] {
			const auto &socket = OpenOrThrow(socket_, "conntrack.dump");
			const uint32_t family =
			    info[0].IsNumber() ? info[0].As<Napi::Number>().Uint32Value() : 0;
			if (family != 4 && family != 6)
				throw BadArgument("family", "must be 4 or 6, not " + Describe(info[0]));
			Message request =
			    ConntrackRequest(IPCTNL_MSG_CT_GET, NLM_F_DUMP, family == 4 ? AF_INET : AF_INET6)
				.Finish();
			*progress_ = {socket->StartDump(request, "conntrack.dump"), false};
		});
	}

	// read(): a promise of {rows, state}
	Napi::Value Read(const Napi::CallbackInfo &info)
	{
		return Guarded(info.Env(), "conntrack.dump", [&]() -> Napi::Value {
			const auto &socket = OpenOrThrow(socket_, "conntrack.dump");
			return OnWorker<Chunk>(
			    info.Env(),
			    [socket, progress = progress_] { return ReadChunk(*socket, *progress); },
			    [progress = progress_](Napi::Env env, Chunk &chunk) -> Napi::Value {
				    Napi::Object out = Napi::Object::New(env);
				    out.Set("rows", ToRows(env, chunk.records));
				    out.Set("state", !chunk.end		     ? "more"
						     : progress->interrupted ? "interrupted"
									     : "end");
				    return out;
			    });
		});
	}

	void Close(const Napi::CallbackInfo &)
	{
		socket_.reset();
	}

	std::shared_ptr<Socket> socket_;
	std::shared_ptr<DumpProgress> progress_ = std::make_shared<DumpProgress>();
};

// decodeConntrack(bytes): ConntrackRows
Napi::Value JsDecodeConntrack(const Napi::CallbackInfo &info)
{
	return Guarded(info.Env(), "conntrack.decode", [&]() -> Napi::Value {
		if (!info[0].IsTypedArray() ||
		    info[0].As<Napi::TypedArray>().TypedArrayType() != napi_uint8_array)
			throw BadArgument("bytes", "must be a Uint8Array, not " + Describe(info[0]));
		const auto given = info[0].As<Napi::Uint8Array>();
		// A copy is aligned.
		const std::vector<uint8_t> bytes(given.Data(), given.Data() + given.ByteLength());
		std::vector<ConntrackRecord> records;
		int rest = static_cast<int>(bytes.size());
		for (const auto *message = reinterpret_cast<const nlmsghdr *>(bytes.data());
		     IsWholeMessage(message, rest); message = mnl_nlmsg_next(message, &rest))
			Decode(message, records);
		return ToRows(info.Env(), records);
	});
}

} // namespace

void InitConntrackDump(Napi::Env env, Napi::Object exports)
{
	exports.Set("ConntrackDumpSocket", ConntrackDumpSocket::Define(env));
	exports.Set("decodeConntrack", Napi::Function::New(env, JsDecodeConntrack, "decodeConntrack"));
}

} // namespace tortie
