#include "args.h"
#include "conntrack_objects.h"
#include "conntrack_values.h"
#include "netns.h"
#include "worker.h"
#include <linux/netlink.h>

namespace tortie
{

namespace
{

Napi::Object ToOutcome(Napi::Env env, const std::optional<Failure> &failure)
{
	Napi::Object outcome = Napi::Object::New(env);
	outcome.Set("ok", Napi::Boolean::New(env, !failure));
	if (failure)
		outcome.Set("error", ToError(env, *failure).Value());
	return outcome;
}

Napi::Value ToCreated(Napi::Env env, const std::vector<CreateJob> &jobs)
{
	Napi::Array outcomes = Napi::Array::New(env, jobs.size());
	for (uint32_t i = 0; i < jobs.size(); i++) {
		const Napi::HandleScope scope(env);
		Napi::Object outcome = ToOutcome(env, jobs[i].failure);
		if (!jobs[i].failure) {
			Napi::Array replaced = Napi::Array::New(env);
			if (jobs[i].deletedOriginal)
				replaced.Set(replaced.Length(), "original");
			if (jobs[i].deletedReply)
				replaced.Set(replaced.Length(), "reply");
			outcome.Set("replaced", replaced);
		}
		outcomes.Set(i, outcome);
	}
	return outcomes;
}

Napi::Value ToDeleted(Napi::Env env, const std::vector<DeleteJob> &jobs)
{
	Napi::Array outcomes = Napi::Array::New(env, jobs.size());
	for (uint32_t i = 0; i < jobs.size(); i++) {
		const Napi::HandleScope scope(env);
		Napi::Object outcome = ToOutcome(env, jobs[i].failure);
		if (!jobs[i].failure)
			outcome.Set("existed", Napi::Boolean::New(env, jobs[i].deletedOriginal));
		outcomes.Set(i, outcome);
	}
	return outcomes;
}

// One call at a time: conntrack-table.ts sees to it.
class ConntrackWriter : public Napi::ObjectWrap<ConntrackWriter>
{
      public:
	static Napi::Function Define(Napi::Env env)
	{
		return DefineClass(env, "ConntrackWriter",
				   {
				       InstanceMethod<&ConntrackWriter::Create>("create"),
				       InstanceMethod<&ConntrackWriter::Delete>("delete"),
				       InstanceMethod<&ConntrackWriter::Close>("close"),
				   });
	}

	// new ConntrackWriter(netns?)
	explicit ConntrackWriter(const Napi::CallbackInfo &info) : Napi::ObjectWrap<ConntrackWriter>(info)
	{
		Guarded(info.Env(), "conntrack table", [&] {
			const auto netns = NetnsFromValue(info[0], "netns");
			socket_ = InNetns(netns, [] { return Socket::Open(NETLINK_NETFILTER); });
		});
	}

      private:
	// create(entries, replace): a promise of ConntrackCreated[]
	Napi::Value Create(const Napi::CallbackInfo &info)
	{
		return Guarded(info.Env(), "conntrack.create", [&]() -> Napi::Value {
			const auto &socket = OpenOrThrow(socket_, "conntrack table");
			const bool replace = info[1].ToBoolean();
			return OnWorker<std::vector<CreateJob>>(
			    info.Env(),
			    [socket, replace, jobs = ReadCreateJobs(info[0], replace)]() mutable {
				    CreateEntries(*socket, jobs, replace);
				    return std::move(jobs);
			    },
			    [](Napi::Env env, std::vector<CreateJob> &jobs) { return ToCreated(env, jobs); });
		});
	}

	// delete(keys): a promise of ConntrackDeleted[]
	Napi::Value Delete(const Napi::CallbackInfo &info)
	{
		return Guarded(info.Env(), "conntrack.delete", [&]() -> Napi::Value {
			const auto &socket = OpenOrThrow(socket_, "conntrack table");
			return OnWorker<std::vector<DeleteJob>>(
			    info.Env(),
			    [socket, jobs = ReadDeleteJobs(info[0])]() mutable {
				    DeleteEntries(*socket, jobs);
				    return std::move(jobs);
			    },
			    [](Napi::Env env, std::vector<DeleteJob> &jobs) { return ToDeleted(env, jobs); });
		});
	}

	void Close(const Napi::CallbackInfo &)
	{
		socket_.reset();
	}

	std::shared_ptr<Socket> socket_;
};

} // namespace

const std::shared_ptr<Socket> &OpenOrThrow(const std::shared_ptr<Socket> &socket, const char *object)
{
	if (socket)
		return socket;
	Failure failure;
	failure.number = EBADF;
	failure.syscall = "sendmsg";
	failure.object = object;
	failure.text = "it is closed";
	throw KernelError(failure);
}

void InitConntrackWriter(Napi::Env env, Napi::Object exports)
{
	exports.Set("ConntrackWriter", ConntrackWriter::Define(env));
}

} // namespace tortie
