#include "ipset_requests.h"
#include "objects.h"
#include <algorithm>
#include <arpa/inet.h>
#include <cerrno>
#include <linux/netfilter.h>
#include <linux/netfilter/ipset/ip_set_hash.h>
#include <map>

namespace tortie
{

namespace
{

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
    {IPSET_ERR_INVALID_PROTO, "IPSET_ERR_INVALID_PROTO", "the protocol is 0"},
    {IPSET_ERR_MISSING_PROTO, "IPSET_ERR_MISSING_PROTO", "the member has no protocol and port"},
    {IPSET_ERR_HASH_RANGE_UNSUPPORTED, "IPSET_ERR_HASH_RANGE_UNSUPPORTED",
     "the set holds single addresses only"},
    {IPSET_ERR_HASH_RANGE, "IPSET_ERR_HASH_RANGE", "the range is too large"},
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

} // namespace

Failure IpsetFailure(const Answer &answer, const std::string &object)
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

uint8_t NegotiateIpset(Socket &socket)
{
	IpsetRequest request(IPSET_CMD_PROTOCOL, 0, NFPROTO_UNSPEC, IPSET_PROTOCOL);
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

namespace
{

// The newest revision of a type that both sides know.
uint8_t RevisionOf(Socket &socket, uint8_t protocol, const SetSpec &spec, const std::string &object)
{
	IpsetRequest ask(IPSET_CMD_TYPE, 0, spec.family, protocol);
	ask.PutString(IPSET_ATTR_TYPENAME, spec.type);
	ask.PutU8(IPSET_ATTR_FAMILY, spec.family);
	const auto reply = WithIpsetWords([&] { return socket.Get(ask.Finish(), object); });
	return std::min(ReplyByte(reply, IPSET_ATTR_REVISION).value_or(0), newestRevision);
}

Message CreateRequest(uint8_t protocol, const SetSpec &spec, uint8_t revision)
{
	IpsetRequest create(IPSET_CMD_CREATE, NLM_F_CREATE | NLM_F_EXCL, spec.family, protocol);
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
	return create.Finish();
}

std::string CreateObject(const SetSpec &spec)
{
	return "ipset.create " + spec.name + " " + spec.type;
}

// Sends the requests for these sets and forgets them.
void SendCreations(Socket &socket, std::vector<uint8_t> &bytes, std::vector<const SetSpec *> &specs,
		   std::vector<Refused> &refused)
{
	if (specs.empty())
		return;
	const auto answers = socket.Exchange(bytes, specs.size());
	for (size_t i = 0; i < answers.size(); i++)
		if (answers[i].error)
			refused.push_back(
			    {specs[i]->name, {}, IpsetFailure(answers[i], CreateObject(*specs[i]))});
	bytes.clear();
	specs.clear();
}

// What can't be read as a member is refused here.
std::vector<SetMember> ParseMembers(const std::vector<std::string> &texts, const std::string &verb,
				    const std::string &set, std::vector<Refused> &refused)
{
	std::vector<SetMember> members;
	members.reserve(texts.size());
	for (const std::string &text : texts) {
		SetMember member;
		if (const auto problem = ParseMember(text, member)) {
			const BadArgument bad("", "member '" + text.substr(0, 60) + "': " + *problem);
			refused.push_back({set, text, FailureOf(bad, verb + " " + set)});
			continue;
		}
		members.push_back(std::move(member));
	}
	return members;
}

void WriteMembers(Socket &socket, uint8_t protocol, bool add, const std::string &set,
		  const std::vector<std::string> &texts, std::vector<Refused> &refused)
{
	const std::string verb = add ? "ipset.add" : "ipset.del";
	const auto members = ParseMembers(texts, verb, set, refused);
	size_t next = 0;
	while (next < members.size()) {
		const size_t first = next;
		// Without NLM_F_EXCL a member that is there already (or gone already) is no error.
		IpsetRequest request(add ? IPSET_CMD_ADD : IPSET_CMD_DEL, 0, NFPROTO_UNSPEC, protocol);
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
			throw KernelError(IpsetFailure(answer, verb + " " + set));
		const std::string &member = members[first + line - 1].text;
		refused.push_back({set, member, IpsetFailure(answer, verb + " " + set + " " + member)});
		next = first + line;
	}
}

} // namespace

std::vector<Refused> CreateSets(Socket &socket, uint8_t protocol, const std::vector<SetSpec> &specs)
{
	std::vector<Refused> refused;
	std::map<std::pair<std::string, uint8_t>, uint8_t> revisions;
	std::vector<uint8_t> bytes;
	std::vector<const SetSpec *> waiting;
	for (const SetSpec &spec : specs) {
		const std::pair key(spec.type, spec.family);
		if (!revisions.contains(key)) {
			try {
				revisions[key] = RevisionOf(socket, protocol, spec, CreateObject(spec));
			} catch (const KernelError &error) {
				refused.push_back({spec.name, {}, error.failure});
				continue;
			}
		}
		const Message message = CreateRequest(protocol, spec, revisions[key]);
		if (waiting.size() == Socket::most || bytes.size() + message.bytes.size() > Socket::mostBytes)
			SendCreations(socket, bytes, waiting, refused);
		bytes.insert(bytes.end(), message.bytes.begin(), message.bytes.end());
		waiting.push_back(&spec);
	}
	SendCreations(socket, bytes, waiting, refused);
	return refused;
}

std::vector<Refused> UpdateSets(Socket &socket, uint8_t protocol, const std::vector<SetChange> &changes)
{
	std::vector<Refused> refused;
	for (const auto &[name, add, del] : changes) {
		try {
			// Deletions first: they make room in a set that is nearly full.
			WriteMembers(socket, protocol, false, name, del, refused);
			WriteMembers(socket, protocol, true, name, add, refused);
		} catch (const KernelError &error) {
			refused.push_back({name, {}, error.failure});
		}
	}
	return refused;
}

} // namespace tortie
