// @ts-check
// What Tortie has on this machine right now, outside the namespaces that tests make: taken before and after a run and
// compared. Only what carries one of our names counts, so that other programs can come and go meanwhile.
import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { homedir, tmpdir } from 'node:os';
import { join } from 'node:path';

/**
 * @typedef {object} Trace
 * @property {string} kind what it is, in words
 * @property {string} name as the kernel or the file system has it
 */

/** Names of ours: test objects carry the pid of the process that made them (`tt1234-a`), folders at least `tt-`; host devices start with `cali`. */
const OURS = /(?:^|[^A-Za-z0-9])(?:tt(\d+)|tortie-[a-z]+-(\d+)-|tt-|cali|tortie)/;
/** Paths that the agent uses unless told otherwise; tests tell it otherwise. */
const DEFAULT_PATHS = [
  '/run/tortie',
  '/var/lib/tortie',
  '/var/run/tortie.sock',
  '/opt/cni/bin/tortie',
  '/etc/cni/net.d/10-tortie.conflist',
];
/** Where test clusters (test/cluster) keep their files, each under its name. */
const CLUSTERS = join(process.env['XDG_CACHE_HOME'] || join(homedir(), '.cache'), 'tortie/clusters');
/** In it containerd makes the groups of a kubelet's containers, when that kubelet keeps no groups of its own: those of test clusters. */
const CONTAINER_GROUPS = '/k8s.io/';
/** The environment variable by which processes are told apart: it names the run that started them. */
export const RUN_MARK = 'TORTIE_TEST_RUN';
/** The kind of what only the kernel has: see `lostMaps`. */
export const LOST = 'BPF map that nobody has';
/** Command lines of what makes objects of ours without such a mark; Jest's first process gets it too late to show it. */
const PROGRAMS = /\/tortie\.mjs |\/jest\.js|playground\/main\.ts|bench\/\S+\.ts|\/tortie\/clusters\//;

/**
 * @param {Trace} trace
 * @returns {string} the same for the same object, before and after
 */
export function keyOf(trace) {
  return `${trace.kind} ${trace.name}`;
}

/** The kind of trace that names a source that could not be read: nobody knows what is in it. */
export const UNREAD = 'could not look:';

/** What is there, and as traces of their own the sources that could not be read. @returns {Trace[]} */
export function tracesAndProblems() {
  /** @type {Trace[]} */
  const unread = [];
  return [...traces((name) => unread.push({ kind: UNREAD, name })), ...unread];
}

/**
 * Must run as root in the machine's own namespaces; without root only what anybody can see is listed.
 * @param {(problem: string) => void} onProblem told about each source that could not be read
 * @returns {Trace[]}
 */
export function traces(onProblem) {
  const root = process.geteuid?.() === 0;
  return [
    ...entries('/run/netns').map((name) => ({ kind: 'network namespace', name })),
    ...links(onProblem),
    ...blackholes(onProblem),
    ...mounts(),
    ...entries(tmpdir()).map((name) => ({ kind: 'folder', name: join(tmpdir(), name) })),
    ...entries(CLUSTERS).map((name) => ({ kind: 'cluster', name })),
    ...(root ? [...rules(onProblem), ...ipsets(onProblem), ...bpfObjects(onProblem), ...bpfPins(), ...cgroups()] : []),
    ...DEFAULT_PATHS.filter((path) => existsSync(path)).map((name) => ({ kind: 'path', name })),
  ].filter(({ kind, name }) => kind === 'blackhole route' || OURS.test(name) || isContainerGroup(kind, name));
}

/**
 * Processes that a marked run started and that still live.
 * @param {string} mark value of RUN_MARK
 * @returns {Trace[]}
 */
export function processesOf(mark) {
  return processes()
    .filter((p) => p.mark === mark && p.pid !== process.pid)
    .map((p) => ({ kind: 'process', name: `${p.pid} (${p.command})` }));
}

/**
 * @param {string} mark our own
 * @returns {boolean} whether other tests, a playground or an agent run on this machine: what carries no pid may be theirs
 */
export function othersRun(mark) {
  return processes().some(
    (p) => p.pid !== process.pid && (p.mark === undefined ? PROGRAMS.test(p.command) : p.mark !== mark),
  );
}

/**
 * @param {Trace} trace
 * @returns {number | undefined} the process that made it, if the name says so
 */
export function makerOf(trace) {
  const [, short, long] = OURS.exec(trace.name) ?? [];
  const pid = short ?? long;
  return pid === undefined ? undefined : Number(pid);
}

/** @param {(problem: string) => void} onProblem */
function links(onProblem) {
  const list = JSON.parse(output('ip', ['-j', 'link', 'show'], onProblem) || '[]');
  return list.map((/** @type {{ ifname: string }} */ link) => ({ kind: 'link', name: link.ifname }));
}

/** Routes of address blocks outlive every device. @param {(problem: string) => void} onProblem */
function blackholes(onProblem) {
  return ['-4', '-6'].flatMap((family) =>
    lines(output('ip', [family, 'route', 'show', 'table', 'all', 'type', 'blackhole'], onProblem)).map((name) => ({
      kind: 'blackhole route',
      name,
    })),
  );
}

/** @param {(problem: string) => void} onProblem */
function rules(onProblem) {
  return ['iptables', 'ip6tables'].flatMap((tool) =>
    ['legacy', 'nft'].flatMap((variant) =>
      lines(output(`${tool}-${variant}-save`, [], onProblem))
        .filter((line) => !line.startsWith('#'))
        // Counters of a chain differ between two looks at it.
        .map((line) => ({ kind: `${tool}-${variant} rule`, name: line.replace(/ \[\d+:\d+\]$/, '') })),
    ),
  );
}

/** @param {(problem: string) => void} onProblem */
function ipsets(onProblem) {
  return lines(output('ipset', ['list', '-n'], onProblem)).map((name) => ({ kind: 'ipset', name }));
}

/**
 * @typedef {object} BpfObject as bpftool tells it
 * @property {number} id
 * @property {string} [type]
 * @property {string} [name]
 * @property {readonly number[]} [map_ids] of a program
 * @property {readonly string[]} [pinned] where, if that was asked for
 */

/** @param {(problem: string) => void} onProblem @returns {Trace[]} */
function bpfObjects(onProblem) {
  const [programs, maps] = ['prog', 'map'].map(
    (kind) => /** @type {BpfObject[]} */ (JSON.parse(output('bpftool', ['-j', kind, 'show'], onProblem) || '[]')),
  );
  const lost = lostMaps(programs ?? [], maps ?? []);
  return [
    ...(programs ?? []).map(({ name = '', id }) => ({ kind: 'BPF program', name: `${name} (id ${id})` })),
    ...(maps ?? []).map((map) => ({
      kind: lost.has(map.id) ? LOST : 'BPF map',
      name: `${map.name ?? ''} (id ${map.id})`,
    })),
  ];
}

/**
 * Program arrays that no program and no descriptor has. The kernel loses count of one that somebody opens, as bpftool does to list it, while its last
 * user's end is still being worked off (prog_array_map_clear schedules work that is scheduled already, and the reference that it has taken for that
 * is nobody's; seen on 6.18). Nothing frees it before the next boot. (`traces` doesn't ask for pins: they are traces of their own.)
 * @param {readonly BpfObject[]} programs
 * @param {readonly BpfObject[]} maps
 * @param {() => ReadonlySet<number>} [open] ids of the maps that processes have open; asked for only where it matters
 * @returns {ReadonlySet<number>}
 */
export function lostMaps(programs, maps, open = openMaps) {
  const used = new Set(programs.flatMap(({ map_ids = [] }) => map_ids));
  const unused = maps.filter(
    ({ type, id, pinned = [] }) => type === 'prog_array' && pinned.length === 0 && !used.has(id),
  );
  if (unused.length === 0) return new Set();
  const opened = open();
  return new Set(unused.map(({ id }) => id).filter((id) => !opened.has(id)));
}

/** Of all processes: proc(5), fdinfo. @returns {ReadonlySet<number>} */
function openMaps() {
  return new Set(
    entries('/proc').flatMap((pid) =>
      (/^\d+$/.test(pid) ? entries(`/proc/${pid}/fdinfo`) : []).flatMap((fd) => {
        try {
          const [, id] = /^map_id:\s*(\d+)$/m.exec(readFileSync(`/proc/${pid}/fdinfo/${fd}`, 'utf8')) ?? [];
          return id === undefined ? [] : [Number(id)];
        } catch {
          // It is closed by now.
          return [];
        }
      }),
    ),
  );
}

function bpfPins() {
  return mountPoints('bpf').flatMap((at) => walk(at, 4).map((name) => ({ kind: 'BPF pin', name })));
}

function cgroups() {
  return [...mountPoints('cgroup2'), ...mountPoints('cgroup')].flatMap((at) =>
    walk(at, 3, true).map((name) => ({ kind: 'cgroup', name })),
  );
}

function mounts() {
  return mountPoints().map((name) => ({ kind: 'mount', name }));
}

/** @param {string} kind @param {string} name */
function isContainerGroup(kind, name) {
  return kind === 'cgroup' && name.includes(CONTAINER_GROUPS);
}

/** @param {string} [type] of the file system; every one if absent */
function mountPoints(type) {
  return lines(readFileSync('/proc/self/mountinfo', 'utf8')).flatMap((line) => {
    const [left = '', right = ''] = line.split(' - ');
    return type === undefined || right.startsWith(`${type} `) ? [left.split(' ')[4] ?? ''] : [];
  });
}

/**
 * @param {string} top
 * @param {number} depth levels below
 * @param {boolean} [onlyFolders]
 * @returns {string[]} paths below it
 */
function walk(top, depth, onlyFolders = false) {
  if (depth === 0) return [];
  return readdirOf(top)
    .filter((entry) => !onlyFolders || entry.isDirectory())
    .flatMap((entry) => [
      join(top, entry.name),
      ...(entry.isDirectory() ? walk(join(top, entry.name), depth - 1, onlyFolders) : []),
    ]);
}

/** @param {string} folder */
function entries(folder) {
  return readdirOf(folder).map((entry) => entry.name);
}

/** @param {string} folder @returns {import('node:fs').Dirent[]} nothing if it is not there, or goes while it is read */
function readdirOf(folder) {
  try {
    return readdirSync(folder, { withFileTypes: true });
  } catch {
    return [];
  }
}

/** @returns {{ pid: number, mark: string | undefined, command: string }[]} mark: of the run that started it */
function processes() {
  return entries('/proc').flatMap((name) => {
    if (!/^\d+$/.test(name)) return [];
    try {
      // The environment of a zombie is empty, that of another user's process can't be read: neither is ours to end.
      const environment = readFileSync(`/proc/${name}/environ`, 'utf8').split('\0');
      const mark = environment.find((variable) => variable.startsWith(`${RUN_MARK}=`))?.slice(RUN_MARK.length + 1);
      const command = readFileSync(`/proc/${name}/cmdline`, 'utf8').split('\0').join(' ').trim();
      return [{ pid: Number(name), mark, command }];
    } catch {
      return [];
    }
  });
}

/**
 * @param {string} command
 * @param {readonly string[]} args
 * @param {(problem: string) => void} onProblem
 */
function output(command, args, onProblem) {
  const run = spawnSync(command, args, { encoding: 'utf8', maxBuffer: 64 << 20 });
  if (run.status === 0) return run.stdout;
  onProblem(`${command}: ${run.error?.message ?? (run.stderr.trim() || `status ${run.status}`)}`);
  return '';
}

/** @param {string} text */
function lines(text) {
  return text.split('\n').filter((line) => line !== '');
}
