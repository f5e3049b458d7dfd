/** Numbers of linux/bpf.h that more than one probe asks with. */

/** `enum bpf_prog_type`. */
export const programTypes = { schedCls: 3, xdp: 6, cgroupSock: 9, cgroupSockAddr: 18, syscall: 31 } as const;

/** Helpers by the number that a program calls them with (`___BPF_FUNC_MAPPER`). */
export const helpers = {
  fibLookup: 69,
  getNetnsCookie: 122,
  redirectNeigh: 152,
  redirectPeer: 155,
  forEachMapElem: 164,
  loop: 181,
} as const;

/** `BPF_F_MMAPABLE`: an array that processes can map into their memory. */
export const mmapable = 1 << 10;
