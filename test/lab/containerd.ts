import { spawn, type ChildProcess } from 'node:child_process';
import {
  copyFileSync,
  createWriteStream,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { eventually } from './agent-lab.ts';
import { cgroup2, removeCgroup } from './cgroups.ts';
import { distDir } from './dist.ts';
import { exec, must, type Finished } from './exec.ts';
import type { Lab } from './lab.ts';
import type { LabNode } from './lab-node.ts';
import { peerPort } from './peer.ts';

const programs = ['containerd', 'containerd-shim-runc-v2', 'ctr', 'runc'] as const;

/** Which of containerd's programs this machine lacks. */
export function missingPrograms(): readonly string[] {
  const dirs = (process.env['PATH'] ?? '').split(':');
  return programs.filter((program) => !dirs.some((dir) => existsSync(join(dir, program))));
}

/**
 * What the runtime's mount namespace shows: the lab's own directories where containerd, ctr, runc and libcni have their fixed paths (/etc/cni,
 * /opt/cni/bin, /var/lib/cni, /run/containerd). None of these programs needs anything else there.
 */
const ownDirs = ['etc', 'opt', 'run', 'var/lib'] as const;

const start = `set -e
echo $$ > "$1/cgroup.procs"
mount --bind "$2" "$3/rootfs/bin/node"
for dir in ${ownDirs.join(' ')}; do mount --bind "$3/$dir" "/$dir"; done
exec containerd --config /etc/containerd/config.toml`;

/** Without the kubelet's interface, which would read the CNI conf too. It has other names since containerd 2. */
const config = `version = 2
disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.cri.v1.images", "io.containerd.cri.v1.runtime"]
`;

/** A container that runs in the foreground of a `ctr run --rm --cni`, which calls ADD before it starts and DEL after it ended. */
export class Container {
  readonly name: string;
  readonly #ctr: ChildProcess;
  readonly #exited: Promise<number | null>;
  readonly #errors: string[] = [];

  constructor(name: string, ctr: ChildProcess) {
    this.name = name;
    this.#ctr = ctr;
    this.#exited = new Promise((resolve) => {
      ctr.once('close', resolve);
    });
    ctr.stderr?.on('data', (chunk: Buffer) => this.#errors.push(chunk.toString()));
  }

  /** What ctr and the container wrote on their standard error. */
  get stderr(): string {
    return this.#errors.join('');
  }

  /** Resolves when the container's program says that it serves. */
  async ready(): Promise<void> {
    const said = new Promise<void>((resolve) => {
      if (this.#ctr.stdout !== null) createInterface({ input: this.#ctr.stdout }).once('line', () => resolve());
    });
    const ended = this.#exited.then((status) => {
      throw new Error(`ctr run ${this.name} ended with status ${status}: ${this.stderr}`);
    });
    await Promise.race([said, ended]);
  }

  /** Resolves with ctr's exit status, which is the container's. */
  exited(): Promise<number | null> {
    return this.#exited;
  }

  /** Ends the program's standard input, at which it exits by itself; resolves with ctr's status. */
  finish(): Promise<number | null> {
    this.#ctr.stdin?.end();
    return this.#exited;
  }
}

/**
 * A containerd of a test's own on one node of a lab: in the node's network namespace, and in a mount namespace in which its fixed paths are
 * the lab's. All its processes, the containers' too, are below one cgroup: that is how none of them outlives `dispose`.
 */
export class Containerd implements AsyncDisposable {
  /** Of containerd's objects and of the cgroups: carries the pid of this process. */
  readonly name: string;
  readonly #dir: string;
  readonly #node: LabNode;
  #daemon: ChildProcess | undefined;
  #execs = 0;

  private constructor(lab: Lab, node: LabNode) {
    this.name = `${lab.prefix}-ctr`;
    this.#dir = join(lab.dir, 'containerd');
    this.#node = node;
  }

  /** Starts one whose containers get their interfaces by this plugin's configuration; resolves when it answers. */
  static async start(lab: Lab, node: LabNode, plugin: object): Promise<Containerd> {
    const containerd = new Containerd(lab, node);
    try {
      await containerd.#makeDirs(plugin);
      await containerd.#startDaemon();
      return containerd;
    } catch (error) {
      await containerd[Symbol.asyncDispose]();
      throw error;
    }
  }

  /** Runs ctr to its end. */
  ctr(...args: string[]): Promise<Finished> {
    const [file, ...rest] = this.#ctrCommand(args);
    return exec(file, rest);
  }

  /** Runs ctr, which must succeed; returns what it printed. */
  async mustCtr(...args: string[]): Promise<string> {
    const [file, ...rest] = this.#ctrCommand(args);
    return must(file, ...rest);
  }

  /** `ctr run --rm --cni` of the lab's echo server; resolves when it serves. */
  async run(name: string): Promise<Container> {
    const [file, ...args] = this.#ctrCommand([
      'run',
      '--rm',
      '--cni',
      '--rootfs',
      this.#rootfs,
      name,
      '/bin/node',
      '/peer.ts',
      'serve',
      '-', // Its namespace's path, which only raw packets need.
      String(peerPort),
    ]);
    const container = new Container(name, spawn(file, args, { stdio: ['pipe', 'pipe', 'pipe'] }));
    await container.ready();
    return container;
  }

  /** `ctr run --detach --cni` of a program that does nothing. */
  async runDetached(name: string): Promise<void> {
    const idle = ['/bin/node', '-e', 'setInterval(() => {}, 1e6)'];
    await this.mustCtr('run', '--detach', '--null-io', '--cni', '--rootfs', this.#rootfs, name, ...idle);
  }

  /** Runs JavaScript inside a running container; returns what it printed. */
  evaluate(name: string, script: string, ...args: string[]): Promise<string> {
    return this.mustCtr('tasks', 'exec', '--exec-id', `exec${this.#execs++}`, name, '/bin/node', '-e', script, ...args);
  }

  /** Containers and tasks that containerd knows, and results that libcni keeps for a DEL. */
  async traces(): Promise<readonly string[]> {
    const results = join(this.#dir, 'var/lib/cni/results');
    return [
      ...(await this.mustCtr('containers', 'list', '-q')).split('\n').map((name) => `container ${name}`),
      ...(await this.mustCtr('tasks', 'list', '-q')).split('\n').map((name) => `task ${name}`),
      ...(existsSync(results) ? readdirSync(results) : []).map((name) => `CNI result ${name}`),
    ].filter((trace) => !trace.endsWith(' '));
  }

  /** What containerd logged. */
  log(): string {
    return existsSync(this.#logPath) ? readFileSync(this.#logPath, 'utf8') : '';
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await removeCgroup(this.name);
  }

  get #rootfs(): string {
    return join(this.#dir, 'rootfs');
  }

  get #logPath(): string {
    return join(this.#dir, 'containerd.log');
  }

  #ctrCommand(args: readonly string[]): [string, ...string[]] {
    const pid = this.#daemon?.pid;
    if (pid === undefined) throw new Error('containerd is not running');
    return ['nsenter', `--target=${pid}`, '--mount', '--net', 'ctr', '--namespace', this.name, ...args];
  }

  async #makeDirs(plugin: object): Promise<void> {
    const write = (path: string, text: string) => {
      mkdirSync(dirname(join(this.#dir, path)), { recursive: true });
      writeFileSync(join(this.#dir, path), text);
    };
    for (const dir of [...ownDirs, 'opt/cni/bin', 'rootfs/bin']) mkdirSync(join(this.#dir, dir), { recursive: true });
    write('etc/containerd/config.toml', config);
    write(
      'etc/cni/net.d/10-tortie.conflist',
      JSON.stringify({ cniVersion: '1.0.0', name: 'containers', plugins: [plugin] }),
    );
    copyFileSync(join(distDir, 'cni/tortie'), join(this.#dir, 'opt/cni/bin/tortie'));

    // The containers' root: the runtime (mounted, as it is big) with its shared libraries, and the echo server.
    write('rootfs/bin/node', '');
    const libraries = (await must('ldd', nodeBinary)).matchAll(/(\/\S+) \(0x/g);
    for (const [, library = ''] of libraries) {
      mkdirSync(join(this.#rootfs, dirname(library)), { recursive: true });
      copyFileSync(library, join(this.#rootfs, library));
    }
    for (const file of ['peer.ts', 'peer-probe.ts', 'peer-streams.ts']) {
      copyFileSync(fileURLToPath(new URL(file, import.meta.url)), join(this.#rootfs, file));
    }
  }

  async #startDaemon(): Promise<void> {
    const group = join(cgroup2(), this.name, 'containerd');
    mkdirSync(group, { recursive: true });
    const log = createWriteStream(this.#logPath);
    const namespaces = [`--net=${this.#node.netnsPath}`, 'unshare', '--mount', '--propagation=private'];
    const daemon = spawn('nsenter', [...namespaces, 'sh', '-c', start, 'sh', group, nodeBinary, this.#dir], {
      stdio: ['ignore', 'ignore', 'pipe'],
    });
    this.#daemon = daemon;
    daemon.stderr.pipe(log);
    const answers = async () => {
      if (daemon.exitCode !== null) throw new Error(`containerd ended with status ${daemon.exitCode}: ${this.log()}`);
      // Before the mounts are made, ctr would ask the machine's own containerd.
      return this.log().includes('serving...') && (await this.ctr('version')).status === 0;
    };
    await eventually(answers, () => `containerd does not answer: ${this.log()}`);
  }
}

const nodeBinary = join(distDir, 'bin/node');
