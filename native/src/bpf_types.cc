#include "bpf_types.h"
#include "errors.h"
#include "fd.h"
#include <bpf/bpf.h>
#include <string>

namespace tortie
{
namespace
{

template <typename Info> void Ask(int fd, Info &info, const char *what)
{
	uint32_t length = sizeof(info);
	if (bpf_obj_get_info_by_fd(fd, &info, &length) != 0)
		ThrowErrno("bpf", what);
}

} // namespace

std::optional<MapTypes> TypesOf(int fd)
{
	bpf_map_info map = {};
	Ask(fd, map, "map information");
	if (map.btf_id == 0 || map.btf_key_type_id == 0 || map.btf_value_type_id == 0)
		return std::nullopt;
	Fd types(bpf_btf_get_fd_by_id(map.btf_id));
	if (!types)
		ThrowErrno("bpf", "types of map " + std::string(map.name));
	// Once for the length: the kernel says it whatever room there is.
	bpf_btf_info info = {};
	Ask(types.get(), info, "length of types");
	MapTypes found{.key = map.btf_key_type_id, .value = map.btf_value_type_id, .btf = {}};
	found.btf.resize(info.btf_size);
	info = {};
	info.btf = reinterpret_cast<uintptr_t>(found.btf.data());
	info.btf_size = found.btf.size();
	Ask(types.get(), info, "types");
	return found;
}

} // namespace tortie
