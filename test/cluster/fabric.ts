import { existsSync } from 'node:fs';
import { exec, must } from '../lab/exec.ts';

/** The network between the nodes: its own, so that several clusters can use it at the same time. */
export const network = {
  ipv4: { gateway: '10.213.7.1', machine: '10.213.7.254', length: 24, node: (n: number) => `10.213.7.${10 + n}` },
  ipv6: {
    gateway: 'fd00:213:7::1',
    machine: 'fd00:213:7::254',
    length: 64,
    node: (n: number) => `fd00:213:7::${10 + n}`,
  },
} as const;

/** A network namespace with a bridge to which every node has a cable; the control plane lives here too. */
export class Fabric {
  readonly #prefix: string;

  constructor(prefix: string) {
    this.#prefix = prefix;
  }

  get name(): string {
    return `${this.#prefix}-f`;
  }

  get netnsPath(): string {
    return `/run/netns/${this.name}`;
  }

  /** Makes it. `reachable` connects the machine's own namespace to it, by a device named after the cluster. */
  async create(reachable: boolean): Promise<void> {
    if (reachable) await mustBeFree();
    await must('ip', 'netns', 'add', this.name);
    const ip = (...args: string[]) => must('ip', '-n', this.name, ...args);
    await withoutDad(this.netnsPath);
    await ip('link', 'set', 'lo', 'up');
    await ip('link', 'add', 'br0', 'up', 'type', 'bridge');
    for (const { gateway, length } of [network.ipv4, network.ipv6]) {
      await ip('addr', 'add', `${gateway}/${length}`, 'dev', 'br0');
    }
    if (!reachable) return;
    await this.#cable('machine', ['name', this.#prefix]);
    for (const { machine, length } of [network.ipv4, network.ipv6]) {
      await must('ip', 'addr', 'add', `${machine}/${length}`, 'dev', this.#prefix);
    }
    await must('ip', 'link', 'set', this.#prefix, 'up');
  }

  /** Makes a node's namespace and its cable; `n` counts from 1. */
  async createNode(name: string, n: number): Promise<void> {
    await must('ip', 'netns', 'add', name);
    await withoutDad(`/run/netns/${name}`);
    const ip = (...args: string[]) => must('ip', '-n', name, ...args);
    await ip('link', 'set', 'lo', 'up');
    // A machine that is replaced is the same one for all that looks at it.
    const mac = `02:d5:07:00:00:${(10 + n).toString(16).padStart(2, '0')}`;
    await this.#cable(`node${n}`, ['name', 'eth0', 'address', mac, 'netns', name]);
    await ip('link', 'set', 'eth0', 'up');
    for (const { node, gateway, length } of [network.ipv4, network.ipv6]) {
      await ip('addr', 'add', `${node(n)}/${length}`, 'dev', 'eth0');
      await ip('route', 'add', 'default', 'via', gateway);
    }
    // What kubeadm asks of a machine before it becomes a node.
    for (const sysctl of ['ipv4/ip_forward', 'ipv6/conf/all/forwarding']) {
      await must('nsenter', `--net=/run/netns/${name}`, 'sh', '-c', `echo 1 > /proc/sys/net/${sysctl}`);
    }
  }

  /** Removes a node's cable and namespace; nothing happens to what is gone already. */
  async destroyNode(name: string, n: number): Promise<void> {
    // The kernel would take this end with the other, but some time later.
    await exec('ip', ['-n', this.name, 'link', 'del', `node${n}`]);
    if (existsSync(`/run/netns/${name}`)) await must('ip', 'netns', 'del', name);
  }

  /** Nothing happens to what is gone already. */
  async destroy(): Promise<void> {
    await exec('ip', ['link', 'del', this.#prefix]);
    if (existsSync(this.netnsPath)) await must('ip', 'netns', 'del', this.name);
  }

  async #cable(port: string, peer: readonly string[]): Promise<void> {
    const from = ['-n', this.name, 'link', 'add', port, 'up', 'master', 'br0', 'type', 'veth', 'peer', ...peer];
    // A peer without a namespace is made in the one of `-n`.
    await must('ip', ...from, ...(peer.includes('netns') ? [] : ['netns', String(process.pid)]));
  }
}

/** Duplicate address detection would keep each IPv6 address from being used for a second or two. */
async function withoutDad(netns: string): Promise<void> {
  await must('nsenter', `--net=${netns}`, 'sh', '-c', 'echo 0 > /proc/sys/net/ipv6/conf/default/accept_dad');
}

/** A cluster that the machine can reach must not take an address range that the machine uses. */
async function mustBeFree(): Promise<void> {
  for (const [family, { gateway, length }] of [
    ['-4', network.ipv4],
    ['-6', network.ipv6],
  ] as const) {
    const routes = await must('ip', family, 'route', 'show', 'match', gateway);
    const taken = routes.split('\n').find((line) => line !== '' && !line.startsWith('default'));
    if (taken !== undefined) {
      throw new Error(`this machine has a route into the cluster's network ${gateway}/${length}: ${taken}`);
    }
  }
}
