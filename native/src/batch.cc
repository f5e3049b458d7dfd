#include "batch.h"
#include "args.h"
#include "objects.h"
#include <cstring>
#include <iterator>

namespace tortie
{

// Against arrays of absurd length: an Op takes some 300 bytes.
static constexpr uint32_t maxOps = 1000000;

struct Encoder {
	const char *op;
	void (*encode)(const Args &args, Op &op);
};

static const Encoder encoders[] = {
    {"veth.add", EncodeVethAdd},	{"bridge.add", EncodeBridgeAdd},       {"link.set", EncodeLinkSet},
    {"link.del", EncodeLinkDel},	{"linkGroup.del", EncodeLinkGroupDel}, {"xdp.set", EncodeXdp},
    {"addr.add", EncodeAddress},	{"addr.replace", EncodeAddress},       {"addr.del", EncodeAddress},
    {"route.add", EncodeRoute},		{"route.replace", EncodeRoute},	       {"route.del", EncodeRoute},
    {"neigh.replace", EncodeNeighbour}, {"neigh.del", EncodeNeighbour},	       {"clsact.add", EncodeClsact},
    {"clsact.del", EncodeClsact},	{"filter.replace", EncodeFilter},      {"filter.del", EncodeFilter},
};

static void Encode(Napi::Value value, Op &op)
{
	try {
		const Args args(value, "");
		const std::string name = args.String("op", 64);
		op.object = name;
		for (const Encoder &encoder : encoders) {
			if (name == encoder.op) {
				encoder.encode(args, op);
				return;
			}
		}
		args.Fail("op", "'" + name + "' is no request");
	} catch (const BadArgument &bad) {
		op.failure = FailureOf(bad, op.object);
	} catch (const KernelError &error) {
		op.failure = error.failure;
		op.failure->object = op.object + ": " + error.failure.object;
	} catch (const Napi::Error &thrown) {
		// A getter of the request threw.
		op.failure = FailureOf(BadArgument("", thrown.Message()), op.object);
	}
	op.messages.clear();
	op.fds.clear();
}

Batch::Batch(Napi::Value ops)
{
	if (!ops.IsArray())
		throw BadArgument("ops", "must be an array, not " + Describe(ops));
	const auto array = ops.As<Napi::Array>();
	const uint32_t count = array.Length();
	if (count > maxOps)
		throw BadArgument("ops", "must have " + std::to_string(maxOps) + " entries at most");
	ops_.resize(count);
	for (uint32_t i = 0; i < count; i++) {
		Napi::HandleScope scope(array.Env());
		ops_[i].object = "op " + std::to_string(i);
		Encode(array.Get(i), ops_[i]);
	}
}

// Requests that are written and not yet sent.
struct Batch::Pending {
	std::vector<uint8_t> bytes;
	std::vector<Op *> ops;
	bool changesNames = false;
	std::map<std::string, uint32_t> indexes;

	void Flush(Socket &socket)
	{
		if (ops.empty())
			return;
		try {
			const auto answers = socket.Exchange(bytes, ops.size());
			for (size_t i = 0; i < ops.size(); i++)
				if (answers[i].error && !ops[i]->failure)
					Fail(*ops[i], answers[i]);
		} catch (const KernelError &error) {
			for (Op *op : ops)
				if (!op->failure) {
					op->failure = error.failure;
					op->failure->object = op->object;
				}
		}
		if (changesNames)
			indexes.clear();
		bytes.clear();
		ops.clear();
		changesNames = false;
	}

	static void Fail(Op &op, const Answer &answer)
	{
		Failure failure;
		failure.number = answer.error;
		failure.syscall = "sendmsg";
		failure.object = op.object;
		failure.extack = answer.extack;
		op.failure = std::move(failure);
	}

	// False: a device that it names isn't there.
	bool Resolve(Socket &socket, Op &op, Message &message)
	{
		for (const auto &[offset, name] : message.names) {
			auto found = indexes.find(name);
			if (found == indexes.end())
				found = indexes.emplace(name, socket.IndexOf(name)).first;
			if (found->second == 0) {
				Failure failure;
				failure.number = ENODEV;
				failure.syscall = "sendmsg";
				failure.object = op.object;
				failure.text = "no device " + name;
				op.failure = std::move(failure);
				return false;
			}
			memcpy(message.bytes.data() + offset, &found->second, sizeof(found->second));
		}
		return true;
	}

	void Append(Socket &socket, Op &op, Message &message)
	{
		if (ops.size() == Socket::most || bytes.size() + message.bytes.size() > Socket::mostBytes)
			Flush(socket);
		bytes.insert(bytes.end(), message.bytes.begin(), message.bytes.end());
		ops.push_back(&op);
		changesNames |= op.changesNames;
	}
};

void Batch::Run(Socket &socket)
{
	Pending pending;
	for (Op &op : ops_) {
		for (size_t i = 0; i < op.messages.size() && !op.failure; i++) {
			Message &message = op.messages[i];
			// A name may be one that an op before makes, and a second message depends on the
			// first.
			if (i > 0 || (!message.names.empty() && pending.changesNames))
				pending.Flush(socket);
			if (op.failure)
				break;
			try {
				if (pending.Resolve(socket, op, message))
					pending.Append(socket, op, message);
			} catch (const KernelError &error) {
				op.failure = error.failure;
				op.failure->object = op.object;
			}
		}
	}
	pending.Flush(socket);
	for (Op &op : ops_)
		op.fds.clear();
}

Napi::Array Batch::Results(Napi::Env env) const
{
	Napi::Array results = Napi::Array::New(env, ops_.size());
	for (uint32_t i = 0; i < ops_.size(); i++) {
		Napi::HandleScope scope(env);
		Napi::Object result = Napi::Object::New(env);
		result.Set("ok", Napi::Boolean::New(env, !ops_[i].failure));
		if (ops_[i].failure)
			result.Set("error", ToError(env, *ops_[i].failure).Value());
		results.Set(i, result);
	}
	return results;
}

} // namespace tortie
