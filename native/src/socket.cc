#include "socket.h"
#include <cerrno>
#include <chrono>
#include <cstring>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <sys/socket.h>
#include <thread>

namespace tortie
{

static constexpr int receiveBuffer = 512 << 10;

Socket::Socket(mnl_socket *socket) : socket_(socket)
{
}

Socket::~Socket()
{
	mnl_socket_close(socket_);
}

int Socket::fd() const
{
	return mnl_socket_get_fd(socket_);
}

// Not blocking: rtnetlink and nfnetlink work inside sendmsg (a dump: inside recvmsg), so that the answer is
// there or never comes. A read that finds nothing is an error, not a hang.
std::shared_ptr<Socket> Socket::Open(int protocol)
{
	mnl_socket *raw = mnl_socket_open2(protocol, SOCK_CLOEXEC | SOCK_NONBLOCK);
	if (!raw)
		ThrowErrno("socket", "netlink socket");
	std::shared_ptr<Socket> socket(new Socket(raw));
	const int on = 1;
	// An error answer without the request's copy, and with the kernel's text.
	mnl_socket_setsockopt(raw, NETLINK_CAP_ACK, const_cast<int *>(&on), sizeof(on));
	mnl_socket_setsockopt(raw, NETLINK_EXT_ACK, const_cast<int *>(&on), sizeof(on));
	// Filters of dumps are obeyed. Older kernels ignore them, so decoding filters too.
	mnl_socket_setsockopt(raw, NETLINK_GET_STRICT_CHK, const_cast<int *>(&on), sizeof(on));
	// Room for all answers to what is sent at once, whatever the system's default; FORCE needs
	// CAP_NET_ADMIN.
	if (setsockopt(socket->fd(), SOL_SOCKET, SO_RCVBUFFORCE, &receiveBuffer, sizeof(receiveBuffer)) != 0)
		setsockopt(socket->fd(), SOL_SOCKET, SO_RCVBUF, &receiveBuffer, sizeof(receiveBuffer));
	if (mnl_socket_bind(raw, 0, MNL_SOCKET_AUTOPID) != 0)
		ThrowErrno("bind", "netlink socket");
	return socket;
}

bool Socket::Receive(const std::function<void(const nlmsghdr *)> &each, const std::string &object)
{
	alignas(NLMSG_ALIGNTO) char buffer[65536];
	ssize_t length;
	do
		length = mnl_socket_recvfrom(socket_, buffer, sizeof(buffer));
	while (length < 0 && errno == EINTR);
	if (length < 0) {
		if (errno == EAGAIN)
			return false;
		ThrowErrno("recvmsg", object);
	}
	int rest = static_cast<int>(length);
	for (const auto *message = reinterpret_cast<const nlmsghdr *>(buffer); IsWholeMessage(message, rest);
	     message = mnl_nlmsg_next(message, &rest))
		each(message);
	return true;
}

// NLMSG_ERROR and NLMSG_DONE both begin with the error; the extended acknowledgement follows.
static Answer ReadAnswer(const nlmsghdr *message)
{
	Answer answer;
	const size_t payload = mnl_nlmsg_get_payload_len(message);
	if (payload < sizeof(int))
		return answer;
	int error;
	memcpy(&error, mnl_nlmsg_get_payload(message), sizeof(error));
	answer.error = error < 0 ? -error : 0;
	if (answer.error && message->nlmsg_type == NLMSG_ERROR && !(message->nlmsg_flags & NLM_F_CAPPED) &&
	    payload > sizeof(int)) {
		const auto *from = static_cast<const uint8_t *>(mnl_nlmsg_get_payload(message)) + sizeof(int);
		answer.request.assign(from, from + payload - sizeof(int));
	}
	if (!answer.error || !(message->nlmsg_flags & NLM_F_ACK_TLVS))
		return answer;
	size_t offset = sizeof(int);
	if (message->nlmsg_type == NLMSG_ERROR && payload >= sizeof(nlmsgerr)) {
		offset = sizeof(nlmsgerr);
		const auto *body = static_cast<const nlmsgerr *>(mnl_nlmsg_get_payload(message));
		if (!(message->nlmsg_flags & NLM_F_CAPPED))
			offset += MNL_ALIGN(body->msg.nlmsg_len) - MNL_NLMSG_HDRLEN;
	}
	if (offset > payload)
		return answer;
	mnl_attr_parse(
	    message, offset,
	    [](const nlattr *attribute, void *text) {
		    if (mnl_attr_get_type(attribute) == NLMSGERR_ATTR_MSG &&
			mnl_attr_validate(attribute, MNL_TYPE_NUL_STRING) >= 0)
			    *static_cast<std::string *>(text) = mnl_attr_get_str(attribute);
		    return MNL_CB_OK;
	    },
	    &answer.extack);
	return answer;
}

static KernelError FailureFrom(const Answer &answer, const std::string &object)
{
	Failure failure;
	failure.number = answer.error;
	failure.syscall = "sendmsg";
	failure.object = object;
	failure.extack = answer.extack;
	return KernelError(failure);
}

std::vector<Answer> Socket::Exchange(std::span<uint8_t> bytes, size_t count)
{
	const uint32_t first = sequence_ + 1;
	int rest = static_cast<int>(bytes.size());
	for (auto *request = reinterpret_cast<nlmsghdr *>(bytes.data()); mnl_nlmsg_ok(request, rest);
	     request = mnl_nlmsg_next(request, &rest)) {
		request->nlmsg_seq = ++sequence_;
		request->nlmsg_flags |= NLM_F_ACK;
	}
	const std::string object = "netlink";
	if (mnl_socket_sendto(socket_, bytes.data(), bytes.size()) < 0)
		ThrowErrno("sendmsg", object);
	std::vector<Answer> answers(count);
	std::vector<bool> answered(count);
	size_t open = count;
	while (open > 0) {
		const bool any = Receive(
		    [&](const nlmsghdr *message) {
			    const uint32_t place = message->nlmsg_seq - first;
			    if (message->nlmsg_type != NLMSG_ERROR || place >= count || answered[place])
				    return;
			    answers[place] = ReadAnswer(message);
			    answered[place] = true;
			    open--;
		    },
		    object);
		if (!any)
			break;
	}
	// Each answer that never came is that request's failure, not the others'.
	for (size_t i = 0; open > 0 && i < count; i++)
		if (!answered[i])
			answers[i] = {ENOBUFS, "the kernel's answer was lost", {}};
	return answers;
}

Answer Socket::Do(Message message)
{
	return std::move(Exchange(message.bytes, 1).front());
}

std::vector<uint8_t> Socket::Get(Message message, const std::string &object)
{
	Resolve(message, object);
	const uint32_t sequence = ++sequence_;
	message.header()->nlmsg_seq = sequence;
	if (mnl_socket_sendto(socket_, message.bytes.data(), message.bytes.size()) < 0)
		ThrowErrno("sendmsg", object);
	std::vector<uint8_t> out;
	std::optional<Answer> answer;
	while (!answer) {
		const bool any = Receive(
		    [&](const nlmsghdr *reply) {
			    if (reply->nlmsg_seq != sequence)
				    return;
			    if (reply->nlmsg_type == NLMSG_ERROR) {
				    answer = ReadAnswer(reply);
				    return;
			    }
			    const auto *from = reinterpret_cast<const uint8_t *>(reply);
			    out.assign(from, from + MNL_ALIGN(reply->nlmsg_len));
			    answer = Answer{};
		    },
		    object);
		if (!any)
			answer = Answer{ENOBUFS, "the kernel's answer was lost", {}};
	}
	if (answer->error)
		throw FailureFrom(*answer, object);
	return out;
}

uint32_t Socket::StartDump(Message &message, const std::string &object)
{
	const uint32_t sequence = ++sequence_;
	message.header()->nlmsg_seq = sequence;
	if (mnl_socket_sendto(socket_, message.bytes.data(), message.bytes.size()) < 0)
		ThrowErrno("sendmsg", object);
	return sequence;
}

Socket::DumpPart Socket::NextOfDump(uint32_t sequence, const std::string &object,
				    const std::function<void(const nlmsghdr *)> &each)
{
	DumpPart part;
	std::optional<Answer> answer;
	const bool any = Receive(
	    [&](const nlmsghdr *reply) {
		    if (reply->nlmsg_seq != sequence)
			    return;
		    if (reply->nlmsg_flags & NLM_F_DUMP_INTR)
			    part.interrupted = true;
		    if (reply->nlmsg_type == NLMSG_DONE || reply->nlmsg_type == NLMSG_ERROR)
			    answer = ReadAnswer(reply);
		    else
			    each(reply);
	    },
	    object);
	if (!any)
		answer = Answer{ENOBUFS, "the kernel's answer was lost", {}};
	if (answer && answer->error)
		throw FailureFrom(*answer, object);
	part.end = answer.has_value();
	return part;
}

// False when changes interrupted it.
bool Socket::DumpOnce(Message &message, const std::string &object,
		      const std::function<void(const nlmsghdr *)> &each)
{
	const uint32_t sequence = StartDump(message, object);
	bool interrupted = false;
	for (bool end = false; !end;) {
		const DumpPart part = NextOfDump(sequence, object, each);
		interrupted |= part.interrupted;
		end = part.end;
	}
	return !interrupted;
}

void Socket::UntilWhole(const std::string &object, const std::function<bool()> &dump)
{
	for (int attempt = 0; attempt < dumpTries; attempt++) {
		// Whoever is changing things is given time: 1, 2, ... ms.
		if (attempt > 0)
			std::this_thread::sleep_for(std::chrono::milliseconds(attempt));
		if (dump())
			return;
	}
	Failure failure;
	failure.number = EINTR;
	failure.syscall = "recvmsg";
	failure.object = object;
	failure.text = "changes interrupted the dump " + std::to_string(dumpTries) + " times";
	throw KernelError(failure);
}

std::vector<uint8_t> Socket::Dump(Message message, const std::string &object)
{
	Resolve(message, object);
	std::vector<uint8_t> out;
	UntilWhole(object, [&] {
		out.clear();
		return DumpOnce(message, object, [&](const nlmsghdr *reply) {
			const auto *from = reinterpret_cast<const uint8_t *>(reply);
			out.insert(out.end(), from, from + MNL_ALIGN(reply->nlmsg_len));
		});
	});
	return out;
}

void Socket::DumpEach(Message message, const std::string &object,
		      const std::function<void(const nlmsghdr *)> &each)
{
	Resolve(message, object);
	UntilWhole(object, [&] { return DumpOnce(message, object, each); });
}

uint32_t Socket::IndexOf(const std::string &name)
{
	MessageWriter writer(RTM_GETLINK, 0);
	writer.Fixed<ifinfomsg>();
	writer.PutString(IFLA_IFNAME, name);
	writer.PutU32(IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS);
	try {
		const auto reply = Get(writer.Finish(), "link " + name);
		if (reply.size() < MNL_NLMSG_HDRLEN + sizeof(ifinfomsg))
			return 0;
		ifinfomsg info;
		memcpy(&info, reply.data() + MNL_NLMSG_HDRLEN, sizeof(info));
		return static_cast<uint32_t>(info.ifi_index);
	} catch (const KernelError &error) {
		if (error.failure.number == ENODEV)
			return 0;
		throw;
	}
}

void Socket::Resolve(Message &message, const std::string &object)
{
	for (const auto &[offset, name] : message.names) {
		const uint32_t index = IndexOf(name);
		if (index == 0) {
			Failure failure;
			failure.number = ENODEV;
			failure.syscall = "sendmsg";
			failure.object = object;
			failure.text = "no device " + name;
			throw KernelError(failure);
		}
		memcpy(message.bytes.data() + offset, &index, sizeof(index));
	}
	message.names.clear();
}

} // namespace tortie
