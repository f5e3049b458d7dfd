import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import type { EbpfDataplane } from '#dataplanes/ebpf/ebpf.ts';
import { attachedPrograms, openPinnedLink } from '#native/bpf.ts';
import { exec } from '#test/lab/exec.ts';
import { until } from '#test/lab/until.ts';
import { debianPlugins } from './cni-testbed.ts';
import { type BedPod, drive, EbpfBed } from './ebpf-bed.ts';

/*
 * The CNI plugin bandwidth, chained after us, on pods' devices:
 *
 *     what the pod sends -> ingress of cali1: [tcx: our program] -> qdisc ingress, u32: redirect to an ifb with tbf -> the stack
 *     what the pod gets  -> egress of cali1:  [tcx: our program] -> tbf
 */
const limit = 80_000_000;

let bed: EbpfBed;
beforeEach(async () => {
  bed = await EbpfBed.create();
});
afterEach(async () => {
  await bed[Symbol.asyncDispose]();
});

/** Calls the plugin for a pod as a runtime does after our ADD. */
async function bandwidth(pod: BedPod, verb: 'ADD' | 'DEL' = 'ADD'): Promise<{ status: number; stdout: string }> {
  const conf = {
    cniVersion: '1.0.0',
    name: 'net',
    type: 'bandwidth',
    runtimeConfig: {
      bandwidth: { ingressRate: limit, ingressBurst: limit, egressRate: limit, egressBurst: limit },
    },
    prevResult: {
      cniVersion: '1.0.0',
      interfaces: [{ name: pod.device }, { name: 'eth0', sandbox: pod.netns.path }],
      ips: [],
    },
  };
  const { status, stdout } = await exec('nsenter', [`--net=${bed.node.path}`, join(debianPlugins, 'bandwidth')], {
    env: {
      CNI_COMMAND: verb,
      CNI_CONTAINERID: `pod${pod.n}`,
      CNI_IFNAME: 'eth0',
      CNI_NETNS: pod.netns.path,
      CNI_PATH: debianPlugins,
    },
    input: JSON.stringify(conf),
  });
  return { status: status ?? -1, stdout };
}

const indexOf = ({ device }: BedPod): number => bed.host.link(device)?.index ?? 0;
const pinDir = (): string => join(bed.bpffs, 'v2', 'pods');
const pins = (): string[] => (existsSync(pinDir()) ? readdirSync(pinDir()).sort() : []);
const pinsOf = (ifindex: number): string[] => [`${ifindex}-egress`, `${ifindex}-ingress`];

/** Links of ours on the device, first the one that runs first. */
async function links(pod: BedPod): Promise<unknown[]> {
  const { path } = bed.node;
  const both = (['ingress', 'egress'] as const).map((hook) =>
    attachedPrograms({ ifindex: indexOf(pod), netns: { path }, hook }),
  );
  return (await Promise.all(both)).flat().map(({ name, linkId }) => ({ name, linkId }));
}
const ours = [{ name: 'tortie_from_pod' }, { name: 'tortie_to_pod' }];

const qdiscsOf = async ({ device }: BedPod): Promise<string[]> =>
  (JSON.parse(await bed.node.exec('tc', '-j', 'qdisc', 'show', 'dev', device)) as { kind: string }[])
    .map(({ kind }) => kind)
    .sort();

/** How many packets the pod's limits have let pass: of what it sends, and of what it gets. */
async function limited(pod: BedPod): Promise<{ sent: number; got: number }> {
  const all = JSON.parse(await bed.node.exec('tc', '-s', '-j', 'qdisc', 'show')) as {
    kind: string;
    dev: string;
    packets: number;
  }[];
  const filters = await bed.node.exec('tc', 'filter', 'show', 'dev', pod.device, 'parent', 'ffff:');
  const ifb = /to device (\w+)/.exec(filters)?.[1];
  const of = (dev: string | undefined): number =>
    all.find((qdisc) => qdisc.kind === 'tbf' && qdisc.dev === dev)?.packets ?? -1;
  return { sent: of(ifb), got: of(pod.device) };
}

const ping = async (from: BedPod, to: string, count = 1): Promise<boolean> =>
  (await exec('ip', ['netns', 'exec', from.netns.name, 'ping', '-c', `${count}`, '-i', '0.01', '-W', '30', to]))
    .status === 0;

async function announce(dataplane: EbpfDataplane, ...pods: BedPod[]): Promise<void> {
  for (const { id, endpoint } of pods) dataplane.onUpdate({ type: 'workloadEndpointUpdate', id, endpoint });
  // Where events drive it, one of their applies may have been faster.
  expect(await dataplane.apply()).toMatchObject({ failed: [] });
}

async function active(): Promise<EbpfDataplane> {
  const dataplane = await bed.dataplane();
  await dataplane.activate();
  return dataplane;
}

/** A pod with limits as an ADD makes it. */
async function limitedPod(n: number, dataplane: EbpfDataplane): Promise<BedPod> {
  const pod = await bed.pod(n);
  await dataplane.linkPodDevice(pod.device);
  expect(await bandwidth(pod)).toMatchObject({ status: 0 });
  return pod;
}

test('clsact and the plugin’s qdisc exclude each other, whoever comes first', async () => {
  const [one, two] = [await bed.pod(1), await bed.pod(2)];
  await bed.host.run([{ op: 'clsact.add', link: one.device }]);
  const refused = await bandwidth(one);
  expect(refused.status).not.toBe(0);
  expect(refused.stdout).toContain('create ingress qdisc: file exists');
  expect(await bandwidth(two)).toMatchObject({ status: 0 });
  expect(bed.host.batchSync([{ op: 'clsact.add', link: two.device }])).toMatchObject([
    { ok: false, error: { code: 'EEXIST' } },
  ]);
});

describe('a pod with limits that is made in eBPF mode', () => {
  test('is closed until it is announced, and then all that it sends and gets, to and from pods here too, passes by them', async () => {
    const dataplane = await active();
    const driven = drive(dataplane);
    const one = await limitedPod(1, dataplane);
    const two = await bed.pod(2, dataplane);
    expect(await links(one)).toMatchObject(ours);
    expect(await exec('ip', ['netns', 'exec', two.netns.name, 'ping', '-c', '1', '-W', '0.3', one.ipv4])).toMatchObject(
      {
        status: 1,
      },
    );
    await announce(dataplane, one, two);
    await driven.idle();
    for (const [from, to] of [
      [one, two],
      [two, one],
    ] as const) {
      for (const address of [to.ipv4, to.ipv6]) {
        expect(await ping(from, address)).toBe(true); // Neighbours are resolved by this.
        const before = await limited(one);
        expect(await ping(from, address, 5)).toBe(true);
        const after = await limited(one);
        expect(after.sent - before.sent).toBeGreaterThanOrEqual(5);
        expect(after.got - before.got).toBeGreaterThanOrEqual(5);
      }
    }
    expect(await qdiscsOf(one)).toEqual(['ingress', 'tbf']);
    expect(await qdiscsOf(two)).toContain('clsact');
  });

  test('is adopted by the next agent, repaired when its links were taken off, and leaves no pins', async () => {
    const first = await active();
    const [one, two] = [await limitedPod(1, first), await bed.pod(2, first)];
    await announce(first, one, two);
    const before = await links(one);
    await first[Symbol.asyncDispose]();
    const next = await bed.dataplane([one, two]);
    await next.activate();
    expect(await next.apply()).toMatchObject({ failed: [], repaired: [] });
    expect(await links(one)).toEqual(before);
    expect(pins()).toEqual(pinsOf(indexOf(one)));
    for (const detached of [['ingress'], ['egress', 'ingress']]) {
      for (const direction of detached) {
        await using link = await openPinnedLink(join(pinDir(), `${indexOf(one)}-${direction}`));
        await link?.detach();
      }
      next.requestResync();
      expect(await next.apply()).toMatchObject({ failed: [], repaired: [`BPF filters of ${one.device}`] });
      expect(await links(one)).toMatchObject(ours);
      expect(await ping(one, two.ipv4)).toBe(true);
    }
    await next.cleanup();
    expect(await links(one)).toEqual([]);
    expect(await qdiscsOf(one)).toEqual(['ingress', 'tbf']);
    expect(existsSync(bed.bpffs)).toBe(false);
  });

  test('leaves no pins when its device goes, whether an agent is there to see it or not', async () => {
    const first = await active();
    const [one, two] = [await limitedPod(1, first), await limitedPod(2, first)];
    await announce(first, one, two);
    const [gone, kept] = [indexOf(one), indexOf(two)];
    expect(pins()).toEqual([...pinsOf(gone), ...pinsOf(kept)].sort());
    first.onUpdate({ type: 'workloadEndpointRemove', id: one.id });
    const driven = drive(first);
    await bed.host.run([{ op: 'link.del', link: one.device }]);
    await until(() => pins().length === 2);
    expect(pins()).toEqual(pinsOf(kept));
    await driven.idle();
    await first[Symbol.asyncDispose]();
    await bed.host.run([{ op: 'link.del', link: two.device }]);
    const next = await bed.dataplane();
    expect(pins()).toEqual([]);
    await next.activate();
  });
});

describe('a pod whose limits are older than the flip to eBPF', () => {
  test('is entered by links; they go when the dataplane is released, the limits stay, and it is entered again', async () => {
    const [one, two] = [await bed.pod(1), await bed.pod(2)];
    expect(await bandwidth(one)).toMatchObject({ status: 0 });
    const dataplane = await bed.dataplane([one, two]);
    for (let flips = 0; flips < 2; flips += 1) {
      await dataplane.activate();
      expect(await dataplane.apply()).toMatchObject({ failed: [], repaired: [] });
      expect(await links(one)).toMatchObject(ours);
      expect(await links(two)).toEqual([]);
      const before = await limited(one);
      expect(await ping(one, two.ipv4)).toBe(true);
      expect(await ping(two, one.ipv6)).toBe(true);
      const after = await limited(one);
      expect(after.sent - before.sent).toBeGreaterThanOrEqual(2);
      expect(after.got - before.got).toBeGreaterThanOrEqual(2);
      await dataplane.release();
      expect(await links(one)).toEqual([]);
      expect(pins()).toEqual([]);
      expect(await qdiscsOf(one)).toEqual(['ingress', 'tbf']);
      expect(await qdiscsOf(two)).not.toContain('clsact');
    }
  });
});

describe('on a kernel without tcx', () => {
  const toDo = /egress-bandwidth.*iptables/;

  test('a pod with a limit of what it sends is refused before the plugin comes', async () => {
    const dataplane = await bed.dataplane([], { hasTcx: false });
    await dataplane.activate();
    const one = await bed.pod(1);
    await expect(dataplane.linkPodDevice(one.device)).rejects.toMatchObject({
      code: 'NO_TCX',
      message: expect.stringMatching(toDo),
    });
    expect(pins()).toEqual([]);
  });

  test('the dataplane is not entered while there is one, and says which', async () => {
    const [one, two] = [await bed.pod(1), await bed.pod(2)];
    expect(await bandwidth(one)).toMatchObject({ status: 0 });
    const dataplane = await bed.dataplane([one, two], { hasTcx: false });
    await expect(dataplane.activate()).rejects.toMatchObject({
      message: expect.stringMatching(new RegExp(`${one.device} \\(endpoint ${one.id}\\).*ingress.*${toDo.source}`)),
    });
    // The filters of the plugin are as they were, and nothing of ours is among them.
    const kinds = (await bed.host.filters(one.device, 'ingress')).map(({ kind }) => kind);
    expect([...new Set(kinds)]).toEqual(['u32']);
    expect(await qdiscsOf(two)).not.toContain('clsact');
  });
});
