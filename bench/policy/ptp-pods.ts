import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { exec, must } from '#test/lab/exec.ts';
import type { Lab } from '#test/lab/lab.ts';
import type { BenchPod } from './sides.ts';

/** Where Debian's containernetworking-plugins are. */
const plugins = '/usr/lib/cni';

/** Pods of a lab without agents, wired by ptp and host-local; nodes reach each other's pods by plain routes. */
export class PtpPods implements AsyncDisposable {
  readonly #lab: Lab;
  readonly #names: string[] = [];

  constructor(lab: Lab) {
    if (!existsSync(join(plugins, 'ptp'))) {
      throw new Error(`${plugins}/ptp is missing, which everything is compared with. Run: npm run setup`);
    }
    this.#lab = lab;
  }

  /** The routes between the nodes. */
  async joinNodes(): Promise<void> {
    for (const [at, node] of this.#lab.nodes.entries()) {
      for (const [to, other] of this.#lab.nodes.entries()) {
        if (at !== to) await must('ip', '-n', node.netns, 'route', 'add', subnetOf(to), 'via', other.ipv4);
      }
    }
  }

  async add(node: number, name: string): Promise<BenchPod> {
    const { netns, netnsPath } = this.#lab.node(node);
    const own = `${netns}-${name}`;
    await must('ip', 'netns', 'add', own);
    this.#names.push(own);
    await must('ip', '-n', own, 'link', 'set', 'lo', 'up');
    const conf = {
      cniVersion: '1.0.0',
      name: `bench-ptp-${node}`,
      type: 'ptp',
      ipam: {
        type: 'host-local',
        ranges: [[{ subnet: subnetOf(node) }]],
        routes: [{ dst: '0.0.0.0/0' }],
        dataDir: join(this.#lab.dir, 'host-local'),
      },
    };
    const { status, stdout } = await exec('nsenter', [`--net=${netnsPath}`, join(plugins, 'ptp')], {
      input: JSON.stringify(conf),
      env: {
        CNI_COMMAND: 'ADD',
        CNI_CONTAINERID: own,
        CNI_NETNS: `/run/netns/${own}`,
        CNI_IFNAME: 'eth0',
        CNI_PATH: plugins,
      },
    });
    if (status !== 0) throw new Error(`ptp ADD of ${name}: ${stdout}`);
    const { ips } = JSON.parse(stdout) as { readonly ips: readonly { readonly address: string }[] };
    return { netnsPath: `/run/netns/${own}`, ipv4: ips[0]?.address.split('/')[0] ?? '' };
  }

  /** The namespaces, and with them the devices. */
  async [Symbol.asyncDispose](): Promise<void> {
    for (const name of this.#names) await must('ip', 'netns', 'del', name);
  }
}

function subnetOf(node: number): string {
  return `10.77.${node}.0/24`;
}
