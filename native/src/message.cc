#include "message.h"
#include <cstring>
#include <stdexcept>

namespace tortie
{

static void Require(bool fits)
{
	if (!fits)
		throw std::length_error("netlink request is too long");
}

MessageWriter::MessageWriter(uint16_t type, uint16_t flags)
{
	header_ = mnl_nlmsg_put_header(buffer_);
	header_->nlmsg_type = type;
	header_->nlmsg_flags = NLM_F_REQUEST | flags;
}

void MessageWriter::Put(uint16_t type, const void *data, size_t length)
{
	Require(mnl_attr_put_check(header_, capacity, type, length, data));
}

void MessageWriter::PutString(uint16_t type, const std::string &text)
{
	Require(mnl_attr_put_strz_check(header_, capacity, type, text.c_str()));
}

void MessageWriter::PutU8(uint16_t type, uint8_t value)
{
	Require(mnl_attr_put_u8_check(header_, capacity, type, value));
}

void MessageWriter::PutU32(uint16_t type, uint32_t value)
{
	Require(mnl_attr_put_u32_check(header_, capacity, type, value));
}

void MessageWriter::PutLink(uint16_t type, const LinkRef &link)
{
	const size_t offset = header_->nlmsg_len + MNL_ATTR_HDRLEN;
	PutU32(type, link.index);
	if (!link.name.empty())
		names_.push_back({offset, link.name});
}

nlattr *MessageWriter::Nest(uint16_t type)
{
	nlattr *nest = mnl_attr_nest_start_check(header_, capacity, type);
	Require(nest != nullptr);
	return nest;
}

void MessageWriter::EndNest(nlattr *nest)
{
	mnl_attr_nest_end(header_, nest);
}

Message MessageWriter::Finish()
{
	Message message;
	message.bytes.assign(buffer_, buffer_ + MNL_ALIGN(header_->nlmsg_len));
	message.names = std::move(names_);
	return message;
}

} // namespace tortie
