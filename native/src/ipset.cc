#include "ipset.h"
#include "args.h"
#include "ipset_digest.h"
#include "ipset_requests.h"
#include "netns.h"
#include "objects.h"
#include "worker.h"
#include <arpa/inet.h>
#include <linux/netfilter.h>
#include <set>

namespace tortie
{

namespace
{

// Text only: members are read on the worker, since there may be very many.
std::vector<std::string> ReadTexts(const Napi::Value &value, const char *name)
{
	if (!value.IsArray())
		throw BadArgument(name, "must be an array, not " + Describe(value));
	const auto array = value.As<Napi::Array>();
	const uint32_t length = array.Length();
	std::vector<std::string> texts;
	texts.reserve(length);
	for (uint32_t i = 0; i < length; i++) {
		Napi::HandleScope scope(array.Env());
		const Napi::Value item = array.Get(i);
		if (!item.IsString())
			throw BadArgument(name, "must hold text, not " + Describe(item));
		texts.push_back(item.As<Napi::String>().Utf8Value());
	}
	return texts;
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

std::optional<uint32_t> NetU32(const Attributes<IPSET_ATTR_CREATE_MAX> &data, int attribute)
{
	const auto value = data.U32(attribute);
	return value ? std::optional(ntohl(*value)) : std::nullopt;
}

// What is wanted of a listing besides what the sets are.
enum class Detail { none, digest, members };

// Sets by the beginning of their names or, if there are any, by `names`.
struct Filter {
	std::string prefix;
	std::optional<std::set<std::string>> names;

	bool Has(const std::string &name) const
	{
		return names ? names->contains(name) : name.starts_with(prefix);
	}
};

// What a listing says of one set; members one to a line, if they are wanted.
struct Listed {
	std::string name;
	std::string type;
	std::optional<int> family;
	std::optional<uint32_t> maxelem, hashsize, count, references;
	IpsetDigest digest;
	std::string members;
};

Filter ReadFilter(const Napi::Value &value)
{
	if (value.IsString())
		return {value.As<Napi::String>().Utf8Value(), std::nullopt};
	const auto names = ReadTexts(value, "names");
	return {"", std::set<std::string>(names.begin(), names.end())};
}

Detail ReadDetail(const Napi::Value &value)
{
	const std::string text = value.IsString() ? value.As<Napi::String>().Utf8Value() : "";
	if (text != "none" && text != "digest" && text != "members")
		throw BadArgument("detail", Describe(value) + " is none of none, digest, members");
	return text == "none" ? Detail::none : text == "digest" ? Detail::digest : Detail::members;
}

void ReadHeader(const Attributes<IPSET_ATTR_CMD_MAX> &attributes, Listed &set)
{
	const Attributes<IPSET_ATTR_CREATE_MAX> data(attributes[IPSET_ATTR_DATA]);
	const uint8_t *family = attributes.Bytes(IPSET_ATTR_FAMILY, 1);
	if (family && (*family == NFPROTO_IPV4 || *family == NFPROTO_IPV6))
		set.family = *family == NFPROTO_IPV4 ? 4 : 6;
	set.maxelem = NetU32(data, IPSET_ATTR_MAXELEM);
	set.hashsize = NetU32(data, IPSET_ATTR_HASHSIZE);
	set.count = NetU32(data, IPSET_ATTR_ELEMENTS);
	set.references = NetU32(data, IPSET_ATTR_REFERENCES);
}

void ReadMembers(const nlattr *members, Detail detail, Listed &set)
{
	const std::function<void(const nlattr *)> each = [&](const nlattr *data) {
		const auto text = MemberText(data);
		if (!text)
			return;
		set.digest.Add(*text);
		if (detail == Detail::members)
			set.members += *text + '\n';
	};
	mnl_attr_parse_nested(
	    members,
	    [](const nlattr *data, void *each) {
		    (*static_cast<const std::function<void(const nlattr *)> *>(each))(data);
		    return MNL_CB_OK;
	    },
	    const_cast<std::function<void(const nlattr *)> *>(&each));
}

// The sets that the filter has. A long one comes in several messages, of which the first has the header.
std::vector<Listed> ReadListing(const std::vector<uint8_t> &bytes, const Filter &filter, Detail detail)
{
	std::vector<Listed> sets;
	ForEachMessage(bytes, [&](const nlmsghdr *message) {
		const Attributes<IPSET_ATTR_CMD_MAX> attributes(message, sizeof(nfgenmsg));
		const auto name = attributes.Text(IPSET_ATTR_SETNAME);
		if (!name || !filter.Has(*name))
			return;
		if (const auto type = attributes.Text(IPSET_ATTR_TYPENAME)) {
			sets.push_back({*name, *type, {}, {}, {}, {}, {}, {}, {}});
			ReadHeader(attributes, sets.back());
		}
		if (attributes[IPSET_ATTR_ADT] && !sets.empty() && sets.back().name == *name)
			ReadMembers(attributes[IPSET_ATTR_ADT], detail, sets.back());
	});
	return sets;
}

Napi::Value DecodeListing(Napi::Env env, std::vector<Listed> &sets)
{
	Napi::Array array = Napi::Array::New(env, sets.size());
	for (uint32_t i = 0; i < sets.size(); i++) {
		Napi::HandleScope scope(env);
		const Listed &listed = sets[i];
		Napi::Object set = Napi::Object::New(env);
		set.Set("name", listed.name);
		set.Set("type", listed.type);
		const auto put = [&](const char *key, const auto &value) {
			if (value)
				set.Set(key, Napi::Number::New(env, *value));
		};
		put("family", listed.family);
		put("maxelem", listed.maxelem);
		put("hashsize", listed.hashsize);
		put("count", listed.count);
		put("references", listed.references);
		set.Set("digest", listed.digest.Text());
		set.Set("members", listed.members);
		array.Set(i, set);
	}
	return array;
}

Napi::Value DecodeFailures(Napi::Env env, std::vector<Refused> &all)
{
	Napi::Array array = Napi::Array::New(env, all.size());
	for (uint32_t i = 0; i < all.size(); i++) {
		Napi::HandleScope scope(env);
		Napi::Object item = Napi::Object::New(env);
		item.Set("set", all[i].set);
		if (all[i].member)
			item.Set("member", *all[i].member);
		item.Set("error", ToError(env, all[i].failure).Value());
		array.Set(i, item);
	}
	return array;
}

SetSpec ReadSpec(const Args &args)
{
	SetSpec spec;
	spec.name = args.String("name", maxSetName);
	spec.type = args.String("type", maxSetName);
	const auto family = args.OptionalFamily("family");
	if (!family)
		args.Fail("family", "is missing");
	spec.family = *family == AF_INET ? NFPROTO_IPV4 : NFPROTO_IPV6;
	spec.maxelem = args.OptionalNumber("maxelem", 1);
	spec.hashsize = args.OptionalNumber("hashsize", 64);
	return spec;
}

} // namespace

Napi::Function IpsetSocket::Define(Napi::Env env)
{
	return DefineClass(env, "IpsetSocket",
			   {
			       InstanceMethod<&IpsetSocket::List>("list"),
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
		return OnWorker<std::vector<Listed>>(
		    info.Env(),
		    [socket = Open(), protocol = protocol_, filter = ReadFilter(info[0]),
		     detail = ReadDetail(info[1])] {
			    IpsetRequest request(IPSET_CMD_LIST, NLM_F_DUMP | NLM_F_ACK, NFPROTO_UNSPEC,
						 protocol);
			    if (detail == Detail::none)
				    request.PutU32(IPSET_ATTR_FLAGS | NLA_F_NET_BYTEORDER,
						   htonl(IPSET_FLAG_LIST_HEADER));
			    return ReadListing(
				WithIpsetWords([&] { return socket->Dump(request.Finish(), "ipset.list"); }),
				filter, detail);
		    },
		    DecodeListing);
	});
}

Napi::Value IpsetSocket::Create(const Napi::CallbackInfo &info)
{
	return Guarded(info.Env(), "ipset.create", [&]() -> Napi::Value {
		if (!info[0].IsArray())
			throw BadArgument("sets", "must be an array, not " + Describe(info[0]));
		const auto array = info[0].As<Napi::Array>();
		std::vector<SetSpec> specs;
		for (uint32_t i = 0; i < array.Length(); i++)
			specs.push_back(ReadSpec(Args(array.Get(i), "set")));
		return OnWorker<std::vector<Refused>>(
		    info.Env(),
		    [socket = Open(), protocol = protocol_, specs = std::move(specs)] {
			    return CreateSets(*socket, protocol, specs);
		    },
		    DecodeFailures);
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
		if (!info[0].IsArray())
			throw BadArgument("changes", "must be an array, not " + Describe(info[0]));
		const auto array = info[0].As<Napi::Array>();
		std::vector<SetChange> changes;
		for (uint32_t i = 0; i < array.Length(); i++) {
			const Napi::Value item = array.Get(i);
			if (!item.IsObject())
				throw BadArgument("changes", "must hold objects, not " + Describe(item));
			const auto change = item.As<Napi::Object>();
			changes.push_back({SetName(change.Get("name"), "name"),
					   ReadTexts(change.Get("add"), "add"),
					   ReadTexts(change.Get("del"), "del")});
		}
		return OnWorker<std::vector<Refused>>(
		    info.Env(),
		    [socket = Open(), protocol = protocol_, changes = std::move(changes)] {
			    return UpdateSets(*socket, protocol, changes);
		    },
		    DecodeFailures);
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
