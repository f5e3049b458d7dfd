#include "ipset.h"
#include "args.h"
#include "ipset_members.h"
#include "netns.h"
#include "objects.h"
#include "worker.h"
#include <algorithm>
#include <arpa/inet.h>
#include <linux/netfilter.h>
#include <linux/netfilter/ipset/ip_set.h>
#include <linux/netfilter/ipset/ip_set_hash.h>
#include <linux/netfilter/nfnetlink.h>

namespace tortie
{

namespace
{

constexpr size_t maxNameLength = IPSET_MAXNAMELEN - 1;
// Newer revisions of the hash types only add options; beyond these nothing is known of them.
constexpr uint8_t newestRevision = 8;

struct KnownError {
	int number;
	const char *code;
	const char *text;
};

// ipset's own numbers: the kernel has names for them but no words.
constexpr KnownError knownErrors[] = {
    {IPSET_ERR_PROTOCOL, "IPSET_ERR_PROTOCOL", "the kernel doesn't understand the request"},
    {IPSET_ERR_FIND_TYPE, "IPSET_ERR_FIND_TYPE",
     "the kernel doesn't have this type of set, or not in this revision"},
    {IPSET_ERR_MAX_SETS, "IPSET_ERR_MAX_SETS", "there are as many sets as the kernel takes"},
    {IPSET_ERR_BUSY, "IPSET_ERR_BUSY", "the set is in use: a rule or another set refers to it"},
    {IPSET_ERR_EXIST_SETNAME2, "IPSET_ERR_EXIST_SETNAME2",
     "the other set doesn't exist, or its name is taken"},
    {IPSET_ERR_TYPE_MISMATCH, "IPSET_ERR_TYPE_MISMATCH", "the sets are of different types or families"},
    {IPSET_ERR_EXIST, "IPSET_ERR_EXIST",
     "a set of this name exists with other properties, or the member exists"},
    {IPSET_ERR_INVALID_CIDR, "IPSET_ERR_INVALID_CIDR",
     "the set can't hold this prefix length (hash:net has no /0: take its two halves)"},
    {IPSET_ERR_INVALID_NETMASK, "IPSET_ERR_INVALID_NETMASK", "invalid netmask"},
    {IPSET_ERR_INVALID_FAMILY, "IPSET_ERR_INVALID_FAMILY", "the type of set doesn't have this family"},
    {IPSET_ERR_TIMEOUT, "IPSET_ERR_TIMEOUT", "the set was made without timeouts"},
    {IPSET_ERR_REFERENCED, "IPSET_ERR_REFERENCED", "a rule or another set refers to it"},
    {IPSET_ERR_IPADDR_IPV4, "IPSET_ERR_IPADDR_IPV4", "the set holds IPv4 addresses only"},
    {IPSET_ERR_IPADDR_IPV6, "IPSET_ERR_IPADDR_IPV6", "the set holds IPv6 addresses only"},
    {IPSET_ERR_COUNTER, "IPSET_ERR_COUNTER", "the set was made without counters"},
    {IPSET_ERR_COMMENT, "IPSET_ERR_COMMENT", "the set was made without comments"},
    {IPSET_ERR_HASH_FULL, "IPSET_ERR_HASH_FULL",
     "the set is full: it has as many members as its maxelem says"},
    {IPSET_ERR_HASH_ELEM, "IPSET_ERR_HASH_ELEM", "the member is null"},
    {IPSET_ERR_HASH_RANGE_UNSUPPORTED, "IPSET_ERR_HASH_RANGE_UNSUPPORTED",
     "the set holds single addresses only"},
    {IPSET_ERR_HASH_RANGE, "IPSET_ERR_HASH_RANGE", "the range is too large"},
};

Failure FailureFor(const Answer &answer, const std::string &object)
{
	Failure failure;
	failure.number = answer.error;
	failure.syscall = "sendmsg";
	failure.object = object;
	failure.extack = answer.extack;
	for (const KnownError &known : knownErrors) {
		if (known.number != answer.error)
			continue;
		failure.code = known.code;
		failure.text = known.text;
	}
	if (answer.error >= IPSET_ERR_PRIVATE && failure.code.empty()) {
		failure.code = "IPSET_ERR_" + std::to_string(answer.error);
		failure.text = "ipset error " + std::to_string(answer.error);
	}
	return failure;
}

// The words of ipset for errors that Socket threw.
template <typename Body> auto WithWords(Body body)
{
	try {
		return body();
	} catch (const KernelError &error) {
		throw KernelError(
		    FailureFor({error.failure.number, error.failure.extack, {}}, error.failure.object));
	}
}

// A request with what every request begins with.
class Request : public MessageWriter
{
      public:
	Request(uint8_t command, uint16_t flags, uint8_t family, uint8_t protocol)
	    : MessageWriter(NFNL_SUBSYS_IPSET << 8 | command, flags)
	{
		auto *header = Fixed<nfgenmsg>();
		header->nfgen_family = family;
		header->version = NFNETLINK_V0;
		PutU8(IPSET_ATTR_PROTOCOL, protocol);
	}
};

// One attribute of a reply that has no others of interest.
std::optional<uint8_t> ReplyByte(const std::vector<uint8_t> &reply, int type)
{
	if (reply.size() < MNL_NLMSG_HDRLEN)
		return std::nullopt;
	const Attributes<IPSET_ATTR_CMD_MAX> attributes(reinterpret_cast<const nlmsghdr *>(reply.data()),
							sizeof(nfgenmsg));
	const uint8_t *byte = attributes.Bytes(type, 1);
	return byte ? std::optional(*byte) : std::nullopt;
}

// The newest version of the protocol that both sides speak.
uint8_t Negotiate(Socket &socket)
{
	Request request(IPSET_CMD_PROTOCOL, 0, NFPROTO_UNSPEC, IPSET_PROTOCOL);
	const auto reply = socket.Get(request.Finish(), "ipset.protocol");
	const uint8_t newest = ReplyByte(reply, IPSET_ATTR_PROTOCOL).value_or(0);
	const uint8_t oldest = ReplyByte(reply, IPSET_ATTR_PROTOCOL_MIN).value_or(newest);
	const uint8_t chosen = std::min<uint8_t>(newest, IPSET_PROTOCOL);
	if (chosen < IPSET_PROTOCOL_MIN || chosen < oldest) {
		Failure failure;
		failure.number = EPROTONOSUPPORT;
		failure.syscall = "sendmsg";
		failure.object = "ipset.protocol";
		failure.text = "the kernel speaks ipset protocol " + std::to_string(oldest) + " to " +
			       std::to_string(newest) + ", this addon 6 to 7";
		throw KernelError(failure);
	}
	return chosen;
}

struct SetSpec {
	std::string name;
	std::string type;
	uint8_t family = NFPROTO_IPV4;
	std::optional<uint32_t> maxelem;
	std::optional<uint32_t> hashsize;
	bool exist = false;
};

void CreateSet(Socket &socket, uint8_t protocol, const SetSpec &spec)
{
	const std::string object = "ipset.create " + spec.name + " " + spec.type;
	Request ask(IPSET_CMD_TYPE, 0, spec.family, protocol);
	ask.PutString(IPSET_ATTR_TYPENAME, spec.type);
	ask.PutU8(IPSET_ATTR_FAMILY, spec.family);
	const auto reply = WithWords([&] { return socket.Get(ask.Finish(), object); });
	const uint8_t revision = std::min(ReplyByte(reply, IPSET_ATTR_REVISION).value_or(0), newestRevision);

	Request create(IPSET_CMD_CREATE, NLM_F_CREATE | (spec.exist ? 0 : NLM_F_EXCL), spec.family, protocol);
	create.PutString(IPSET_ATTR_SETNAME, spec.name);
	create.PutString(IPSET_ATTR_TYPENAME, spec.type);
	create.PutU8(IPSET_ATTR_REVISION, revision);
	create.PutU8(IPSET_ATTR_FAMILY, spec.family);
	nlattr *data = create.Nest(IPSET_ATTR_DATA);
	if (spec.hashsize)
		create.PutU32(IPSET_ATTR_HASHSIZE | NLA_F_NET_BYTEORDER, htonl(*spec.hashsize));
	if (spec.maxelem)
		create.PutU32(IPSET_ATTR_MAXELEM | NLA_F_NET_BYTEORDER, htonl(*spec.maxelem));
	create.EndNest(data);
	const Answer answer = socket.Do(create.Finish());
	if (answer.error)
		throw KernelError(FailureFor(answer, object));
}

struct Refused {
	std::string member;
	Failure failure;
};

// The line that the kernel wrote into the request that it sent back; 0 when it didn't.
uint32_t FailedLine(const Answer &answer)
{
	const auto *request = reinterpret_cast<const nlmsghdr *>(answer.request.data());
	if (answer.request.size() < MNL_NLMSG_HDRLEN + sizeof(nfgenmsg) ||
	    request->nlmsg_len > answer.request.size())
		return 0;
	const Attributes<IPSET_ATTR_CMD_MAX> attributes(request, sizeof(nfgenmsg));
	return attributes.U32(IPSET_ATTR_LINENO).value_or(0);
}

// Adds or deletes all members, many to a message. The kernel stops at a member that it refuses and says
// which: the rest goes again.
void Write(Socket &socket, uint8_t protocol, bool add, const std::string &set,
	   const std::vector<SetMember> &members, std::vector<Refused> &refused)
{
	const std::string verb = add ? "ipset.add " : "ipset.del ";
	size_t next = 0;
	while (next < members.size()) {
		const size_t first = next;
		// Without NLM_F_EXCL a member that is there already (or gone already) is no error.
		Request request(add ? IPSET_CMD_ADD : IPSET_CMD_DEL, 0, NFPROTO_UNSPEC, protocol);
		request.PutString(IPSET_ATTR_SETNAME, set);
		request.PutU32(IPSET_ATTR_LINENO, 0);
		nlattr *list = request.Nest(IPSET_ATTR_ADT);
		for (; next < members.size() && request.HasRoom(memberSize); next++)
			PutMember(request, members[next], static_cast<uint32_t>(next - first + 1));
		request.EndNest(list);
		const Answer answer = socket.Do(request.Finish());
		if (!answer.error)
			continue;
		const uint32_t line = FailedLine(answer);
		if (line == 0 || line > next - first)
			throw KernelError(FailureFor(answer, verb + set));
		const std::string &member = members[first + line - 1].text;
		refused.push_back({member, FailureFor(answer, verb + set + " " + member)});
		next = first + line;
	}
}

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
	if (name.empty() || name.size() > maxNameLength || name.find('\0') != std::string::npos)
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
		protocol_ = Negotiate(*socket_);
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
			    Request request(IPSET_CMD_LIST, NLM_F_DUMP | NLM_F_ACK, NFPROTO_UNSPEC, protocol);
			    request.PutU32(IPSET_ATTR_FLAGS | NLA_F_NET_BYTEORDER,
					   htonl(IPSET_FLAG_LIST_HEADER));
			    return WithWords([&] { return socket->Dump(request.Finish(), "ipset.list"); });
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
			    Request request(IPSET_CMD_LIST, NLM_F_DUMP | NLM_F_ACK, NFPROTO_UNSPEC, protocol);
			    request.PutString(IPSET_ATTR_SETNAME, name);
			    return WithWords(
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
		spec.name = args.String("name", maxNameLength);
		spec.type = args.String("type", maxNameLength);
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
			    Request request(command, NLM_F_EXCL, NFPROTO_UNSPEC, protocol);
			    request.PutString(IPSET_ATTR_SETNAME, name);
			    if (!other.empty())
				    request.PutString(IPSET_ATTR_SETNAME2, other);
			    const Answer answer = socket->Do(request.Finish());
			    if (answer.error)
				    throw KernelError(FailureFor(answer, object));
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
			    Write(*socket, protocol, false, name, del, refused);
			    Write(*socket, protocol, true, name, add, refused);
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
