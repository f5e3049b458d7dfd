// Whether sockets can be destroyed by a program that walks over them: the kernel's function bpf_sock_destroy
// (Linux 6.5), called from an iterator over TCP or UDP sockets. Kernel functions are named by the kernel's
// type information.
#include "bpf.h"
#include "probe.h"
#include <bpf/bpf.h>
#include <bpf/btf.h>
#include <cerrno>
#include <cstring>
#include <memory>

namespace tortie
{

ProbeAnswer ProbeSockDestroy(const std::string &protocol)
{
	const std::unique_ptr<btf, decltype(&btf__free)> types(btf__load_vmlinux_btf(), btf__free);
	if (!types)
		return ProbeRefused(errno, "read the kernel's type information (CONFIG_DEBUG_INFO_BTF)");
	const std::string iterator = "bpf_iter_" + protocol;
	const int function = btf__find_by_name_kind(types.get(), "bpf_sock_destroy", BTF_KIND_FUNC);
	if (function < 0)
		return {ProbeAnswer::no, "the kernel has no function bpf_sock_destroy (Linux 6.5)"};
	const int walk = btf__find_by_name_kind(types.get(), iterator.c_str(), BTF_KIND_FUNC);
	if (walk < 0)
		return {ProbeAnswer::no, "the kernel has no " + iterator};
	const bpf_insn code[] = {
	    // The socket is the second pointer of the iterator's context; the last call has none.
	    {BPF_LDX | BPF_MEM | BPF_DW, BPF_REG_1, BPF_REG_1, 8, 0},
	    {BPF_JMP | BPF_JEQ | BPF_K, BPF_REG_1, 0, 1, 0},
	    {BPF_JMP | BPF_CALL, 0, BPF_PSEUDO_KFUNC_CALL, 0, function},
	    {BPF_ALU64 | BPF_MOV | BPF_K, BPF_REG_0, 0, 0, 0},
	    {BPF_JMP | BPF_EXIT, 0, 0, 0, 0},
	};
	LIBBPF_OPTS(bpf_prog_load_opts, options);
	options.expected_attach_type = BPF_TRACE_ITER;
	options.attach_btf_id = static_cast<uint32_t>(walk);
	const Fd program(bpf_prog_load(BPF_PROG_TYPE_TRACING, "tortie_probe", "Dual BSD/GPL", code,
				       std::size(code), &options));
	return program ? ProbeYes()
		       : ProbeRefused(errno, "load a " + iterator + " program with bpf_sock_destroy");
}

} // namespace tortie
