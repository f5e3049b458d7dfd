#include "ipset.h"
#include "args.h"
#include "ipset_requests.h"
#include "netns.h"
#include "objects.h"
#include "worker.h"
#include <arpa/inet.h>
#include <linux/netfilter.h>

namespace tortie
{

namespace
{

std::vector<SetMember> ReadMembers(Napi::Value value, const char *name, const std::string &set,
				   std::vector<Refused> &refused)
{
	if (!value.IsArray())
		throw BadArgument(name, "must be an array, not " + Describe(value));
	const auto array = value.As<Napi::Array>();
	std::vector<SetMember> members;
	members.reserve(array.Length());
	for (uint32_t i = 0; i < array.Length(); i++) {
		Napi::HandleScope scope(array.Env());
		const Napi::Value item = array.Get(i);
		if (!item.IsString())
			throw BadArgument(name, "must hold text, not " + Describe(item));
		SetMember member;
		const std::string text = item.As<Napi::String>().Utf8Value();
		if (const auto problem = ParseMember(text, member)) {
			const BadArgument bad("", "member " + Describe(item) + ": " + *problem);
			refused.push_back({text, FailureOf(bad, "ipset." + std::string(name) + " " + set)});
			continue;
		}
		members.push_back(std::move(member));
	}
	return members;
}

std::string SetName(Napi::Value value, const char *what)
{
	if (!value.IsString())
		throw BadArgument(what, "must be a set's name, not " + Describe(value));
	std::string name = value.As<Napi::String>().Utf8Value();
	if (name.empty() || name.size() > maxSetName || name.find('\0') != std::string::npos)
		throw BadArgument(what,
				  "set name " + Describe(value) + " must have 1 to 31 bytes and no NUL");
	return name;
}

// Calls `each` with every message of a dump.
template <typename Each> void ForEachMessage(const std::vector<uint8_t> &bytes, Each each)
{
	int rest = static_cast<int>(bytes.size());
	for (const auto *message = reinterpret_cast<const nlmsghdr *>(bytes.data());
	     mnl_nlmsg_ok(message, rest); message = mnl_nlmsg_next(message, &rest))
		each(message);
}

Napi::Value DecodeHeaders(Napi::Env env, const std::vector<uint8_t> &bytes)
{
	Napi::Array array = Napi::Array::New(env);
	ForEachMessage(bytes, [&](const nlmsghdr *message) {
		const Attributes<IPSET_ATTR_CMD_MAX> attributes(message, sizeof(nfgenmsg));
		const auto name = attributes.Text(IPSET_ATTR_SETNAME);
		const auto type = attributes.Text(IPSET_ATTR_TYPENAME);
		if (!name || !type)
			return;
		const Attributes<IPSET_ATTR_CREATE_MAX> data(attributes[IPSET_ATTR_DATA]);
		Napi::Object set = Napi::Object::New(env);
		set.Set("name", *name);
		set.Set("type", *type);
		const uint8_t *family = attributes.Bytes(IPSET_ATTR_FAMILY, 1);
		if (family && (*family == NFPROTO_IPV4 || *family == NFPROTO_IPV6))
			set.Set("family", Napi::Number::New(env, *family == NFPROTO_IPV4 ? 4 : 6));
		const auto put = [&](const char *key, int attribute) {
			if (const auto value = data.U32(attribute))
				set.Set(key, Napi::Number::New(env, ntohl(*value)));
		};
		put("maxelem", IPSET_ATTR_MAXELEM);
		put("hashsize", IPSET_ATTR_HASHSIZE);
		put("count", IPSET_ATTR_ELEMENTS);
		put("references", IPSET_ATTR_REFERENCES);
		array.Set(array.Length(), set);
	});
	return array;
}

Napi::Value DecodeMembers(Napi::Env env, const std::vector<uint8_t> &bytes)
{
	Napi::Array array = Napi::Array::New(env);
	uint32_t count = 0;
	ForEachMessage(bytes, [&](const nlmsghdr *message) {
		const Attributes<IPSET_ATTR_CMD_MAX> attributes(message, sizeof(nfgenmsg));
		if (!attributes[IPSET_ATTR_ADT])
			return;
		const std::function<void(const nlattr *)> each = [&](const nlattr *data) {
			Napi::HandleScope scope(env);
			if (const auto text = MemberText(data))
				array.Set(count++, *text);
		};
		mnl_attr_parse_nested(
		    attributes[IPSET_ATTR_ADT],
		    [](const nlattr *data, void *each) {
			    (*static_cast<const std::function<void(const nlattr *)> *>(each))(data);
			    return MNL_CB_OK;
		    },
		    const_cast<std::function<void(const nlattr *)> *>(&each));
	});
	return array;
}

} // namespace

Napi::Function IpsetSocket::Define(Napi::Env env)
{
	return DefineClass(env, "IpsetSocket",
			   {
			       InstanceMethod<&IpsetSocket::List>("list"),
			       InstanceMethod<&IpsetSocket::Members>("members"),
			       InstanceMethod<&IpsetSocket::Create>("create"),
			       InstanceMethod<&IpsetSocket::Change>("change"),
			       InstanceMethod<&IpsetSocket::Update>("update"),
			       InstanceMethod<&IpsetSocket::Close>("close"),
			   });
}

IpsetSocket::IpsetSocket(const Napi::CallbackInfo &info) : Napi::ObjectWrap<IpsetSocket>(info)
{
	Guarded(info.Env(), "ipset socket", [&] {
		const auto netns = NetnsFromValue(info[0], "netns");
		socket_ = InNetns(netns, [] { return Socket::Open(NETLINK_NETFILTER); });
		protocol_ = NegotiateIpset(*socket_);
	});
}

std::shared_ptr<Socket> IpsetSocket::Open() const
{
	if (socket_)
		return socket_;
	Failure failure;
	failure.number = EBADF;
	failure.syscall = "sendmsg";
	failure.object = "ipset socket";
	failure.text = "it is closed";
	throw KernelError(failure);
}

Napi::Value IpsetSocket::List(const Napi::CallbackInfo &info)
{
	return Guarded(info.Env(), "ipset.list", [&]() -> Napi::Value {
		return OnWorker<std::vector<uint8_t>>(
		    info.Env(),
		    [socket = Open(), protocol = protocol_] {
			    IpsetRequest request(IPSET_CMD_LIST, NLM_F_DUMP | NLM_F_ACK, NFPROTO_UNSPEC,
						 protocol);
			    request.PutU32(IPSET_ATTR_FLAGS | NLA_F_NET_BYTEORDER,
					   htonl(IPSET_FLAG_LIST_HEADER));
			    return WithIpsetWords(
				[&] { return socket->Dump(request.Finish(), "ipset.list"); });
		    },
		    DecodeHeaders);
	});
}

Napi::Value IpsetSocket::Members(const Napi::CallbackInfo &info)
{
	return Guarded(info.Env(), "ipset.members", [&]() -> Napi::Value {
		return OnWorker<std::vector<uint8_t>>(
		    info.Env(),
		    [socket = Open(), protocol = protocol_, name = SetName(info[0], "name")] {
			    IpsetRequest request(IPSET_CMD_LIST, NLM_F_DUMP | NLM_F_ACK, NFPROTO_UNSPEC,
						 protocol);
			    request.PutString(IPSET_ATTR_SETNAME, name);
			    return WithIpsetWords(
				[&] { return socket->Dump(request.Finish(), "ipset.members " + name); });
		    },
		    DecodeMembers);
	});
}

Napi::Value IpsetSocket::Create(const Napi::CallbackInfo &info)
{
	return Guarded(info.Env(), "ipset.create", [&]() -> Napi::Value {
		const Args args(info[0], "set");
		SetSpec spec;
		spec.name = args.String("name", maxSetName);
		spec.type = args.String("type", maxSetName);
		const auto family = args.OptionalFamily("family");
		if (!family)
			args.Fail("family", "is missing");
		spec.family = *family == AF_INET ? NFPROTO_IPV4 : NFPROTO_IPV6;
		spec.maxelem = args.OptionalNumber("maxelem", 1);
		spec.hashsize = args.OptionalNumber("hashsize", 64);
		spec.exist = args.Flag("exist");
		return OnWorker<bool>(
		    info.Env(),
		    [socket = Open(), protocol = protocol_, spec] {
			    CreateSet(*socket, protocol, spec);
			    return true;
		    },
		    [](Napi::Env env, bool &) { return env.Undefined(); });
	});
}

Napi::Value IpsetSocket::Change(const Napi::CallbackInfo &info)
{
	return Guarded(info.Env(), "ipset", [&]() -> Napi::Value {
		const std::string verb = info[0].IsString() ? info[0].As<Napi::String>().Utf8Value() : "";
		const uint8_t command = verb == "destroy" ? IPSET_CMD_DESTROY
					: verb == "flush" ? IPSET_CMD_FLUSH
					: verb == "swap"  ? IPSET_CMD_SWAP
							  : IPSET_CMD_NONE;
		if (command == IPSET_CMD_NONE)
			throw BadArgument("verb", Describe(info[0]) + " is none of destroy, flush, swap");
		const std::string name = SetName(info[1], "name");
		const std::string other = command == IPSET_CMD_SWAP ? SetName(info[2], "other") : "";
		return OnWorker<bool>(
		    info.Env(),
		    [socket = Open(), protocol = protocol_, command, name, other,
		     object = "ipset." + verb + " " + name + (other.empty() ? "" : " " + other)] {
			    // NLM_F_EXCL: newer kernels else take the destruction of a set that isn't there
			    // for done.
			    IpsetRequest request(command, NLM_F_EXCL, NFPROTO_UNSPEC, protocol);
			    request.PutString(IPSET_ATTR_SETNAME, name);
			    if (!other.empty())
				    request.PutString(IPSET_ATTR_SETNAME2, other);
			    const Answer answer = socket->Do(request.Finish());
			    if (answer.error)
				    throw KernelError(IpsetFailure(answer, object));
			    return true;
		    },
		    [](Napi::Env env, bool &) { return env.Undefined(); });
	});
}

Napi::Value IpsetSocket::Update(const Napi::CallbackInfo &info)
{
	return Guarded(info.Env(), "ipset.update", [&]() -> Napi::Value {
		const std::string name = SetName(info[0], "name");
		std::vector<Refused> refused;
		auto add = ReadMembers(info[1], "add", name, refused);
		auto del = ReadMembers(info[2], "del", name, refused);
		return OnWorker<std::vector<Refused>>(
		    info.Env(),
		    [socket = Open(), protocol = protocol_, name, add = std::move(add), del = std::move(del),
		     refused]() mutable {
			    // Deletions first: they make room in a set that is nearly full.
			    WriteMembers(*socket, protocol, false, name, del, refused);
			    WriteMembers(*socket, protocol, true, name, add, refused);
			    return refused;
		    },
		    [](Napi::Env env, std::vector<Refused> &all) -> Napi::Value {
			    Napi::Array array = Napi::Array::New(env, all.size());
			    for (uint32_t i = 0; i < all.size(); i++) {
				    Napi::Object item = Napi::Object::New(env);
				    item.Set("member", all[i].member);
				    item.Set("error", ToError(env, all[i].failure).Value());
				    array.Set(i, item);
			    }
			    return array;
		    });
	});
}

void IpsetSocket::Close(const Napi::CallbackInfo &)
{
	socket_.reset();
}

void InitIpset(Napi::Env env, Napi::Object exports)
{
	exports.Set("IpsetSocket", IpsetSocket::Define(env));
}

} // namespace tortie
