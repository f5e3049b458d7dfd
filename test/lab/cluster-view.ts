import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import type { IpamUsage } from '#ipam/report.ts';
import { eventually } from './agent-lab.ts';
import type { Lab } from './lab.ts';
import type { LabNode } from './lab-node.ts';
import type { LabPod } from './lab-pod.ts';

/** `tortie ipam show`, as any node says it. */
export async function ipamUsageOf(lab: Lab): Promise<IpamUsage> {
  const { status, stdout, stderr } = await lab.node(0).tortie('ipam', 'show', '-o', 'json');
  if (status !== 0) throw new Error(`tortie ipam show: ${stderr}`);
  return JSON.parse(stdout) as IpamUsage;
}

/** How many addresses workloads have. */
export async function addressesInUse(lab: Lab): Promise<number> {
  return (await ipamUsageOf(lab)).pools.reduce((sum, { inUse }) => sum + inUse, 0);
}

/** The same once two looks agree: what others gave back before is written a little later. */
export async function settledAddressesInUse(lab: Lab): Promise<number> {
  let now = await addressesInUse(lab);
  for (let last = -1; last !== now;) {
    last = now;
    await new Promise((resolve) => setTimeout(resolve, 500));
    now = await addressesInUse(lab);
  }
  return now;
}

/** Resolves when the datastore says so; what is decided is written a little later. */
export function inUseBecomes(lab: Lab, count: number): Promise<void> {
  return eventually(
    async () => (await addressesInUse(lab)) === count,
    async () =>
      `${await addressesInUse(lab)} addresses are in use, not ${count}\n${lab.nodes.map((node) => node.logTail()).join('\n')}`,
  );
}

/** Resolves when `tortie ipam check` finds nothing. */
export async function checkFindsNothing(lab: Lab): Promise<void> {
  let last = '';
  await eventually(
    async () => {
      const { status, stdout, stderr } = await lab.node(0).tortie('ipam', 'check');
      last = stdout + stderr;
      return status === 0;
    },
    () => last,
  );
}

/** What the agents wrote of these kinds, as KIND/name. */
export function objectsOf(lab: Lab, ...kinds: readonly string[]): string[] {
  const own = join(lab.datastoreDir, '.tortie');
  return kinds.flatMap((kind) => {
    const dir = join(own, kind);
    if (!existsSync(dir)) return [];
    return readdirSync(dir, { recursive: true, withFileTypes: true })
      .filter((entry) => entry.isFile())
      .map((entry) => join(entry.parentPath, entry.name).slice(own.length + 1));
  });
}

/** Devices of containers, by their alias, as the node has them. */
export async function containerDevices(node: LabNode): Promise<readonly string[]> {
  const links = JSON.parse(await node.exec('ip', '-j', '-d', 'link')) as readonly {
    readonly ifname: string;
    readonly ifalias?: string;
  }[];
  return links.flatMap(({ ifname, ifalias = '' }) => (ifalias.startsWith('tortie:') ? [`${ifname} ${ifalias}`] : []));
}

/** Fails if two pods have one address. */
export function assertNoAddressTwice(pods: readonly LabPod[]): void {
  const owners = new Map<string, string>();
  for (const pod of pods) {
    for (const address of pod.addresses) {
      const other = owners.get(address);
      if (other !== undefined) throw new Error(`${address} was given to ${other} and to ${pod.name}`);
      owners.set(address, pod.name);
    }
  }
}

/** The node reaches each of these pods by ping, in both families; returns the addresses that don't answer. */
export async function unreachable(node: LabNode, pods: readonly LabPod[]): Promise<readonly string[]> {
  const answers = await Promise.all(
    pods.flatMap((pod) =>
      pod.addresses.map(async (address) => {
        const answered = await node.exec('ping', '-q', '-c', '3', '-i', '0.2', '-W', '2', address).then(
          () => true,
          () => false,
        );
        return answered ? [] : [`${pod.name} ${address}`];
      }),
    ),
  );
  return answers.flat();
}
