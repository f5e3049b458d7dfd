import { accessSync, constants, existsSync, readFileSync, statfsSync } from 'node:fs';
import { dirname } from 'node:path';
import { tryFeatures, type FeatureTrial } from '#dataplanes/iptables/probe.ts';
import { mapShapes } from '#dataplanes/ebpf/bpf-types.gen.ts';
import { type KernelIdentity, runningKernel, softirqRefusal } from '#dataplanes/ebpf/softirqs.ts';
import type { Variant } from '#dataplanes/netfilter/xtables.ts';
import { probeBpf, type ProbeRequest } from '#native/bpf.ts';
import { helpers, mmapable, programTypes } from '#native/bpf-numbers.ts';
import type { CommandRunner } from '#native/command-runner.ts';
import { openConntrack } from '#native/conntrack.ts';
import { openIpset } from '#native/ipset.ts';
import { makeScratchNetns } from '#native/scratch-netns.ts';
import type { Family, NetnsRef } from '#native/types.ts';
import type { CheckId } from './check-table.ts';
import { mountsOfType } from './host-view.ts';
import { isForbidden } from './judge-netfilter.ts';
import { tryToKnow, type Finding } from './result.ts';

/** `enum bpf_attach_type` of linux/bpf.h. */
const ATTACH = {
  inet4PostBind: 12,
  inet4Connect: 10,
  inet6Connect: 11,
  udp4Sendmsg: 14,
  udp4Recvmsg: 19,
  inet4Getpeername: 29,
} as const;

interface Trial {
  readonly id: CheckId;
  readonly subject: string;
  readonly what: ProbeRequest;
  /** Not needed yet: what it is for. */
  readonly laterFor?: string;
}

const map = (
  type: number,
  more: { readonly keySize?: number; readonly valueSize?: number; readonly flags?: number } = {},
) => ({
  map: { type, keySize: 4, valueSize: 8, flags: 0, ...more },
});

/** What needs no device and no namespace. */
const bpfTrials: readonly Trial[] = [
  { id: 'bpf', subject: '', what: map(2) },
  { id: 'bpf-maps', subject: 'device map (hash)', what: { map: shapeOf('tortie_devices') } },
  { id: 'bpf-maps', subject: 'source map (LPM trie)', what: { map: shapeOf('tortie_sources') } },
  { id: 'bpf-maps', subject: 'counters (per-CPU hash)', what: { map: shapeOf('tortie_counters') } },
  { id: 'bpf-maps', subject: 'array in shared memory', what: map(2, { flags: mmapable }), laterFor: 'policy in eBPF' },
  { id: 'bpf-maps', subject: 'LRU hash', what: map(9), laterFor: 'connection tracking in eBPF' },
  {
    id: 'bpf-maps',
    subject: 'device map for XDP',
    what: map(25, { valueSize: 4 }),
    laterFor: 'load balancing at the uplink',
  },
  { id: 'bpf-pods', subject: 'sched_cls program', what: { program: programTypes.schedCls } },
  { id: 'bpf-xdp', subject: 'program', what: { program: programTypes.xdp } },
  ...Object.entries(helpers).map(([name, helper]): Trial => ({
    id: 'bpf-helpers',
    subject: name,
    what: { helper, program: programTypes.schedCls },
  })),
  { id: 'bpf-helpers', subject: 'syscall program', what: { program: programTypes.syscall, sleepable: true } },
  ...Object.entries(ATTACH).map(([name, attachType]): Trial => ({
    id: 'bpf-cgroup',
    subject: `${name} program`,
    what: { program: name === 'inet4PostBind' ? programTypes.cgroupSock : programTypes.cgroupSockAddr, attachType },
  })),
];

function shapeOf(name: keyof typeof mapShapes): {
  readonly type: number;
  readonly keySize: number;
  readonly valueSize: number;
  readonly flags: number;
} {
  const { type, keySize, valueSize, flags } = mapShapes[name];
  return { type, keySize, valueSize, flags };
}

/** What is tried in the helper namespace. */
const deviceTrials = (netns: NetnsRef): readonly Trial[] => [
  { id: 'veth', subject: '', what: { link: 'veth', netns } },
  { id: 'vxlan', subject: '', what: { link: 'vxlan', netns } },
  { id: 'bpf-pods', subject: 'clsact', what: { clsact: true, netns } },
  { id: 'bpf-tcx', subject: '', what: { tcx: true, netns } },
  { id: 'bpf-xdp', subject: 'live frames', what: { liveFrames: true, netns } },
];

/** What the features are tried with. */
export interface FeatureDeps {
  readonly commands: CommandRunner;
  readonly families: readonly Family[];
  /** The variant of iptables to try; undefined: none is installed. */
  readonly variant: Promise<Variant | undefined>;
  readonly bpffs: string;
}

/**
 * Tries what the kernel can. Devices, sets and rules are tried in a network namespace that is made for it, has no name and is gone when
 * this returns; maps and programs are closed at once. So nothing of the node is touched, and nothing stays.
 */
export async function collectFeatures(deps: FeatureDeps): Promise<readonly Finding[]> {
  const [bpf, inNamespace] = await Promise.all([Promise.all(bpfTrials.map(tryOne)), tryInNamespace(deps)]);
  return [...inNamespace, ...bpf, ...(await bpfSurroundings(deps.bpffs)), ipv6()];
}

async function tryOne({ id, subject, what, laterFor }: Trial): Promise<Finding> {
  const answer = await probeBpf(what);
  return {
    id,
    subject,
    outcome: answer.answer,
    detail: answer.answer === 'yes' ? 'tried: it works' : answer.reason,
    ...(laterFor === undefined
      ? {}
      : { severity: 'note', disables: `${laterFor}, which this version does not have`, todo: 'nothing' }),
  };
}

async function tryInNamespace(deps: FeatureDeps): Promise<readonly Finding[]> {
  const made = await tryToKnow(makeScratchNetns);
  if (!made.known) {
    const ids = ['namespaces', 'veth', 'vxlan', 'conntrack', 'ipset', 'iptables-rules', 'bpf-tcx'] as const;
    return ids.map((id) => ({ id, outcome: 'unknown', detail: made.reason }));
  }
  using scratch = made.value;
  const [devices, conntrack, rules] = await Promise.all([
    Promise.all(deviceTrials(scratch.ref).map(tryOne)),
    tryConntrack(scratch.ref),
    tryRules(deps, scratch.ref),
  ]);
  return [{ id: 'namespaces', outcome: 'yes', detail: 'tried: it works' }, ...devices, conntrack, ...rules];
}

/** Asks a table in which nothing is to delete an address' entries: that reads the table's count. */
async function tryConntrack(netns: NetnsRef): Promise<Finding> {
  try {
    using conntrack = openConntrack(netns);
    await conntrack.deleteOf(['192.0.2.1']);
    return { id: 'conntrack', outcome: 'yes', detail: 'tried: it works' };
  } catch (error) {
    return failed('conntrack', '', error as Error);
  }
}

async function tryRules(
  { commands, families, variant }: FeatureDeps,
  netns: { readonly path: string },
): Promise<readonly Finding[]> {
  const chosen = await variant;
  // The check of the tools says more.
  if (chosen === undefined)
    return [{ id: 'iptables-rules', outcome: 'unknown', detail: 'no iptables tool is installed' }];
  try {
    using sets = openIpset(netns);
    const inside: CommandRunner = {
      run: (file, args, options) => commands.run('nsenter', [`--net=${netns.path}`, file, ...args], options),
    };
    const trials = await Promise.all(families.map((family) => tryFeatures({ commands: inside, sets }, chosen, family)));
    return trials.flat().map(findingOf);
  } catch (error) {
    return [failed('ipset', '', error as Error)];
  }
}

function findingOf({ kind, what, refused }: FeatureTrial): Finding {
  const id = kind === 'set' ? 'ipset' : 'iptables-rules';
  return refused === undefined
    ? { id, subject: what, outcome: 'yes', detail: 'tried: it works' }
    : failed(id, what, refused);
}

/** What was refused for lack of rights, or because a program to try it with (nsenter) isn't there, says nothing about the kernel. */
function failed(id: CheckId, subject: string, error: Error): Finding {
  const { code } = error as { readonly code?: string };
  const isSilent = code === 'XTABLES_MISSING' || isForbidden(`${code ?? ''} ${error.message}`);
  return { id, subject, outcome: isSilent ? 'unknown' : 'no', detail: error.message };
}

function ipv6(): Finding {
  const path = '/proc/sys/net/ipv6/conf/all/disable_ipv6';
  if (!existsSync(path)) return { id: 'ipv6', outcome: 'no', detail: `${path} isn't there` };
  const isOff = readFileSync(path, 'utf8').trim() === '1';
  return { id: 'ipv6', outcome: isOff ? 'no' : 'yes', detail: `net.ipv6.conf.all.disable_ipv6=${isOff ? 1 : 0}` };
}

/** What programs need around them. */
async function bpfSurroundings(bpffs: string): Promise<readonly Finding[]> {
  const btf = '/sys/kernel/btf/vmlinux';
  return [
    await tryCgroup(readFileSync('/proc/self/mountinfo', 'utf8')),
    await tryMemory(readFileSync('/proc/self/limits', 'utf8')),
    pinning(dirname(bpffs)),
    softirqs(runningKernel()),
    { id: 'bpf-btf', outcome: existsSync(btf) ? 'yes' : 'no', detail: existsSync(btf) ? btf : `${btf} isn't there` },
  ];
}

/** `no` also where it can't be told: the agent goes by the same words. */
export function softirqs(kernel: KernelIdentity): Finding {
  const refusal = softirqRefusal(kernel);
  return {
    id: 'bpf-softirqs',
    outcome: refusal === undefined ? 'yes' : 'no',
    detail: refusal ?? `${kernel.release} ${kernel.version}`,
  };
}

async function tryCgroup(mountinfo: string): Promise<Finding> {
  const [path] = mountsOfType(mountinfo, 'cgroup2');
  if (path === undefined)
    return { id: 'bpf-cgroup', subject: 'cgroup2', outcome: 'no', detail: 'no cgroup2 is mounted' };
  const answer = await probeBpf({ cgroup: path, attachType: ATTACH.inet4Connect });
  return {
    id: 'bpf-cgroup',
    subject: 'cgroup2',
    outcome: answer.answer,
    detail: answer.answer === 'yes' ? path : answer.reason,
  };
}

/** More than this isn't tried. */
const MOST_TRIED = 64 << 20;

/** A map that is larger than the limit can be made where the limit doesn't count. */
async function tryMemory(limits: string): Promise<Finding> {
  const id = 'bpf-memory';
  const limit = /^Max locked memory\s+(\S+)/m.exec(limits)?.[1] ?? 'unlimited';
  if (limit === 'unlimited') return { id, outcome: 'yes', detail: 'unlimited' };
  const bytes = Number(limit);
  if (bytes >= MOST_TRIED) return { id, outcome: 'yes', detail: `${bytes} bytes` };
  const pages = Math.ceil(bytes / 4096) + 1;
  const answer = await probeBpf({ map: { type: 2, keySize: 4, valueSize: 4096, flags: 0, entries: pages } });
  if (answer.answer === 'yes') return { id, outcome: 'yes', detail: `${bytes} bytes, and maps don't count` };
  const { answer: small } = await probeBpf(map(2));
  // Where not even a small one can be made the limit isn't what is in the way.
  return {
    id,
    outcome: small === 'yes' ? 'no' : 'unknown',
    detail: `RLIMIT_MEMLOCK is ${bytes} bytes: ${answer.reason}`,
  };
}

/** `BPF_FS_MAGIC` of linux/magic.h. */
const BPF_FS_MAGIC = 0xcafe4a11;

function pinning(dir: string): Finding {
  const id = 'bpffs';
  try {
    const isMounted = existsSync(dir) && statfsSync(dir).type >>> 0 === BPF_FS_MAGIC;
    if (!isMounted) {
      const isRoot = process.getuid?.() === 0;
      return {
        id,
        subject: dir,
        outcome: isRoot ? 'yes' : 'unknown',
        detail: isRoot ? 'none is mounted there; the agent mounts one' : 'none is mounted there',
      };
    }
    accessSync(dir, constants.W_OK);
    return { id, subject: dir, outcome: 'yes', detail: 'mounted and writable' };
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    return { id, subject: dir, outcome: code === 'EROFS' ? 'no' : 'unknown', detail: message };
  }
}
