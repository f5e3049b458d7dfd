// Where programs are attached: a device of a namespace, or a control group.
#pragma once
#include "args.h"
#include "fd.h"
#include <cstdint>
#include <optional>
#include <string>
#include <sys/syscall.h>
#include <unistd.h>

namespace tortie
{

// bpf(2) with a structure of ours, for what libbpf 1.1 doesn't know.
template <typename Attr> int Bpf(int command, Attr &attr)
{
	return static_cast<int>(syscall(SYS_bpf, command, &attr, sizeof(attr)));
}

// Where a program is or shall be attached.
struct BpfTarget {
	uint32_t attachType = 0;
	uint32_t ifindex = 0;
	std::string cgroup;
	std::optional<std::string> netns;

	std::string text() const;
	// The control group, opened, or nothing.
	Fd Open() const;
};

// From {attachType, ifindex | cgroup, netns?}.
BpfTarget ReadBpfTarget(const Args &args);

} // namespace tortie
