import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { isDeepStrictEqual } from 'node:util';
import { attachedPrograms, type Direction, probeBpf } from '#native/bpf.ts';
import { openNetlink } from '#native/netlink.ts';
import type { Link } from '#native/types.ts';
import { eventually } from './agent-lab.ts';
import { exec } from './exec.ts';

/** What a node's namespace and directories hold, as sorted lines by kind: two snapshots can be compared as they are. */
export type NodeSnapshot = Readonly<Record<string, readonly string[]>>;

/** A node to look at. */
export interface SnapshotSource {
  readonly name: string;
  readonly netnsPath: string;
  readonly bpffs: string;
  readonly runDir: string;
  readonly stateDir: string;
  /** Its device to the other nodes; `uplink` if absent. */
  readonly uplink?: string;
}

const commands = {
  links: ['ip', '-d', '-o', 'link'],
  addresses: ['ip', '-o', 'addr'],
  'routes v4': ['ip', '-4', 'route', 'show', 'table', 'all'],
  'routes v6': ['ip', '-6', 'route', 'show', 'table', 'all'],
  'policy rules': ['ip', 'rule'],
  neighbours: ['ip', 'neigh', 'show', 'nud', 'permanent'],
  qdiscs: ['tc', 'qdisc'],
  'iptables-nft': ['iptables-nft-save'],
  'ip6tables-nft': ['ip6tables-nft-save'],
  'iptables-legacy': ['iptables-legacy-save'],
  'ip6tables-legacy': ['ip6tables-legacy-save'],
  ipsets: ['ipset', 'save'],
  nftables: ['nft', 'list', 'ruleset'],
} as const;

const sysctlsOf = (uplink: string) => [
  'net/ipv4/ip_forward',
  'net/ipv4/conf/all/forwarding',
  'net/ipv4/conf/all/rp_filter',
  'net/ipv4/conf/all/proxy_arp',
  `net/ipv4/conf/${uplink}/forwarding`,
  `net/ipv4/conf/${uplink}/rp_filter`,
  `net/ipv4/conf/${uplink}/proxy_arp`,
  'net/ipv6/conf/all/forwarding',
  'net/ipv6/conf/all/accept_ra',
  'net/ipv6/conf/all/proxy_ndp',
  `net/ipv6/conf/${uplink}/accept_ra`,
  `net/ipv6/conf/${uplink}/forwarding`,
];

/** Looks at everything that Tortie may leave a trace in. */
export async function snapshotOf(node: SnapshotSource): Promise<NodeSnapshot> {
  const lists = await Promise.all(
    Object.entries(commands).map(async ([kind, [file, ...args]]) => {
      const read = () => exec('nsenter', [`--net=${node.netnsPath}`, file, ...args]);
      let { status, stdout, stderr } = await read();
      // A tool that reads rules and then their sets fails when an agent removes both in between.
      if (status !== 0) ({ status, stdout, stderr } = await read());
      if (status !== 0) throw new Error(`${file} ${args.join(' ')} in ${node.name}: ${stderr}`);
      return [kind, linesOf(stdout)] as const;
    }),
  );
  return {
    ...Object.fromEntries(lists),
    sysctls: await readSysctls(node),
    'BPF programs': await programsOf(node.netnsPath),
    'bpf pins': filesBelow(node.bpffs),
    'BPF map elements': await mapElements(node.bpffs),
    'run dir': filesBelow(node.runDir),
    'state dir': filesBelow(node.stateDir),
  };
}

/**
 * The same, once nothing changes by itself any more and `isIt`: what an agent does after it is ready (another node's routes, what the other dataplane
 * has left) is done.
 */
export async function settledSnapshotOf(
  node: SnapshotSource,
  isIt: (now: NodeSnapshot) => boolean = () => true,
): Promise<NodeSnapshot> {
  let now = await snapshotOf(node);
  let before: NodeSnapshot;
  await eventually(
    async () => {
      await sleep(300);
      [before, now] = [now, await snapshotOf(node)];
      return isDeepStrictEqual(now, before) && isIt(now);
    },
    () => `${node.name} does not settle:\n${differences(before, now).join('\n')}`,
  );
  return now;
}

/** What has gone (-) and what has come (+), by kind. Files change with the agent's own doings. */
export function differences(before: NodeSnapshot, now: NodeSnapshot): readonly string[] {
  return Object.keys(before)
    .filter((kind) => !['state dir', 'run dir'].includes(kind))
    .flatMap((kind) => {
      const [old, present] = [before[kind] ?? [], now[kind] ?? []];
      return [
        ...old.filter((line) => !present.includes(line)).map((line) => `- ${kind}: ${line}`),
        ...present.filter((line) => !old.includes(line)).map((line) => `+ ${kind}: ${line}`),
      ];
    });
}

/** Without counters and what changes by itself. Tables, chains and comments without a rule are how a tool says "nothing". */
function linesOf(text: string): string[] {
  return text
    .split('\n')
    .map((line) =>
      line
        .replaceAll(/\[\d+:\d+\]|packets \d+ bytes \d+|expires \d+sec|initval \S+|(valid|preferred)_lft \S+/g, '')
        .replaceAll(/\s+/g, ' ')
        .trim(),
    )
    .filter((line) => line !== '' && !/^(#|\*|COMMIT|:[A-Z]+ )/.test(line))
    .toSorted();
}

async function readSysctls(node: SnapshotSource): Promise<string[]> {
  const { stdout } = await exec('nsenter', [
    `--net=${node.netnsPath}`,
    'grep',
    '-H',
    '',
    ...sysctlsOf(node.uplink ?? 'uplink').map((name) => `/proc/sys/${name}`),
  ]);
  return linesOf(stdout);
}

const hasTcx = probeBpf({ tcx: true });

/**
 * What each device runs, in the order in which it runs: by tcx, then by filters. Names, no ids: a program of the same name that takes
 * another's place is the same to who looks. XDP stands among the links.
 */
async function programsOf(netnsPath: string): Promise<string[]> {
  const netns = { path: netnsPath };
  using host = openNetlink(netns);
  const { answer } = await hasTcx;
  const on = async ({ name, index: ifindex }: Link, direction: Direction): Promise<string[]> => {
    const byTcx = answer === 'yes' ? await attachedPrograms({ ifindex, netns, hook: direction }) : [];
    const filters = await host.filters(name, direction);
    return [
      ...byTcx.map((program) => `${name} ${direction} tcx ${program.name}`),
      ...filters.map((filter) => `${name} ${direction} filter ${filter.priority} ${filter.kind} ${filter.name ?? ''}`),
    ];
  };
  const lists = (await host.links()).flatMap((link) =>
    (['ingress', 'egress'] as const).map((direction) =>
      on(link, direction).catch((error: NodeJS.ErrnoException) => {
        if (error.code === 'ENODEV') return []; // It went meanwhile.
        throw error;
      }),
    ),
  );
  return (await Promise.all(lists)).flat();
}

/** Paths below a directory, relative to it; nothing if there is none. */
export function filesBelow(dir: string): string[] {
  if (!existsSync(dir)) return [];
  return readdirSync(dir, { recursive: true, withFileTypes: true })
    .map((entry) => `${join(entry.parentPath, entry.name).slice(dir.length)}${entry.isFile() ? '' : ' (no file)'}`)
    .toSorted();
}

/** Flows come and go with the traffic. */
const flowMap = /^tortie_(flow|new|frag)/;

/** Keys in the pinned maps; values count packets. */
async function mapElements(bpffs: string): Promise<string[]> {
  const elements: string[] = [];
  for (const entry of existsSync(bpffs) ? readdirSync(bpffs, { recursive: true, withFileTypes: true }) : []) {
    if (!entry.isFile() || flowMap.test(entry.name)) continue;
    const path = join(entry.parentPath, entry.name);
    const { status, stdout } = await exec('bpftool', ['-j', 'map', 'dump', 'pinned', path]);
    if (status !== 0) continue; // A program.
    const dump = JSON.parse(stdout) as readonly { readonly key: readonly string[] }[];
    elements.push(...dump.map(({ key }) => `${entry.name} ${key.join(' ')}`));
  }
  return elements.toSorted();
}
