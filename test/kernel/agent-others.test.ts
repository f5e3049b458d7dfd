/** BPF programs of others on the node's and its pods' devices run on whatever Tortie does there, and `cleanup` leaves them and nothing of its own. */
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { attachTcx, type BpfLink, loadObject, type LoadedObject, probeBpf } from '#native/bpf.ts';
import { openNetlink } from '#native/netlink.ts';
import type { Netlink } from '#native/types.ts';
import { dataplanes, eventually } from '#test/lab/agent-lab.ts';
import { BpfIds } from '#test/lab/bpf-objects.ts';
import { Lab } from '#test/lab/lab.ts';
import type { LabNode } from '#test/lab/lab-node.ts';
import type { LabPod } from '#test/lab/lab-pod.ts';
import { type NodeSnapshot, snapshotOf } from '#test/lab/node-snapshot.ts';
import { hostEndpoint } from '../contract/objects.ts';

const nativeElf = new URL('../../build/bpf/native.bpf.o', import.meta.url).pathname;
const countElf = new URL('../../build/bpf/count.bpf.o', import.meta.url).pathname;
const hasTcx = (await probeBpf({ tcx: true })).answer === 'yes';
/** Where programs of native.bpf.c count: an index of `shared`. */
const places = { first_of_tc: 10, passes: 13 } as const;
const directions = ['ingress', 'egress'] as const;
/** Far behind ours. */
const strangers = { priority: 50, handle: 7 } as const;

/** A program of somebody else: how many packets it has seen. */
interface Stranger {
  readonly name: string;
  readonly count: () => number;
}

/** All that others may have on a device. They end with this process, as links do, or with the device. */
class Strangers implements AsyncDisposable {
  readonly all: Stranger[] = [];
  readonly #stack = new AsyncDisposableStack();

  static async on(node: LabNode, host: Netlink, device: string, where = ''): Promise<Strangers> {
    const strangersOnIt = new Strangers();
    await strangersOnIt.#attach(node, host, device, where);
    return strangersOnIt;
  }

  async #attach(node: LabNode, host: Netlink, device: string, where: string): Promise<void> {
    const ifindex = host.link(device)?.index ?? 0;
    const target = { ifindex, netns: { path: node.netnsPath } };
    await host.run([{ op: 'clsact.add', link: device }]);
    for (const direction of directions) {
      const object = await this.#load(countElf);
      const { fd } = object.program('count');
      await host.run([{ op: 'filter.replace', link: device, direction, ...strangers, name: 'stranger', fd }]);
      const seen = object.map('seen');
      this.all.push({
        name: `${where}${device} clsact ${direction}`,
        count: () =>
          Number(new DataView((seen.get(new Uint8Array(4)) ?? new Uint8Array(8)).buffer).getBigUint64(0, true)),
      });
      if (!hasTcx) continue;
      const native = await this.#native(`${where}${device} tcx ${direction}`, 'first_of_tc');
      this.#stack.use<BpfLink>(await attachTcx(native.program('first_of_tc'), direction, target));
    }
    const native = await this.#native(`${where}${device} XDP`, 'passes');
    await host.run([{ op: 'xdp.set', link: device, mode: 'native', fd: native.program('passes').fd }]);
  }

  async #load(elf: string): Promise<LoadedObject> {
    return this.#stack.use(await loadObject({ name: 'stranger', elf }));
  }

  async #native(name: string, program: keyof typeof places): Promise<LoadedObject> {
    const object = await this.#load(nativeElf);
    const shared = this.#stack.use(object.map('shared').mmap());
    this.all.push({ name, count: () => shared.load32(places[program], 0) });
    return object;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#stack.disposeAsync();
  }
}

describe('BPF programs of others', () => {
  const [iptables, ebpf] = dataplanes;
  const cleanup = new AsyncDisposableStack();
  const ids = new BpfIds();
  let lab: Lab;
  let node: LabNode;
  let before: readonly NodeSnapshot[];
  let onUplinks: readonly Stranger[];
  let onPod: Strangers;
  let pod: LabPod;
  let far: LabPod;

  beforeAll(async () => {
    lab = cleanup.use(await Lab.create({ nodes: 2 }));
    lab.configure({ bpfEnabled: iptables.bpfEnabled });
    // The other one's uplink has Tortie's programs without one.
    lab.apply('host', [
      hostEndpoint('uplink', { node: 'node1', interfaceName: 'uplink', profiles: ['projectcalico-default-allow'] }),
    ]);
    node = lab.node(0);
    const host = cleanup.use(openNetlink({ path: node.netnsPath }));
    const strangers = await Promise.all(
      lab.nodes.map(async (each) =>
        cleanup.use(
          await Strangers.on(each, cleanup.use(openNetlink({ path: each.netnsPath })), 'uplink', `${each.name} `),
        ),
      ),
    );
    onUplinks = strangers.flatMap(({ all }) => all);
    before = await Promise.all(lab.nodes.map(snapshotOf));
    await Promise.all(lab.nodes.map((each) => each.startAgent()));
    [pod, far] = [await node.addPod('pod'), await lab.node(1).addPod('far')];
    await far.peer();
    const device = (await host.links()).find(({ name }) => name.startsWith('cali'))?.name ?? '';
    onPod = cleanup.use(await Strangers.on(node, host, device));
  });
  afterAll(async () => {
    await cleanup.disposeAsync();
  });

  /** Every one of them sees packets of now. */
  async function allRun(which: readonly Stranger[], send: () => Promise<void>): Promise<void> {
    const counts = which.map((stranger) => stranger.count());
    await send();
    expect(which.filter((stranger, i) => stranger.count() <= (counts[i] ?? 0)).map(({ name }) => name)).toEqual([]);
  }
  const throughPod = async () => {
    for (const address of far.addresses) expect(await (await pod.peer()).connect(address)).toMatchObject({ ok: true });
  };
  const noteIds = async () => {
    for (const each of lab.nodes) await ids.note(each);
  };
  const flipTo = async ({ dataplane, bpfEnabled }: (typeof dataplanes)[number]) => {
    lab.setBpfEnabled(bpfEnabled);
    await Promise.all(
      lab.nodes.map((each) => each.waitFor((status) => status.ready && status.dataplane.active === dataplane)),
    );
    await noteIds();
  };

  it.each<[string, () => Promise<void>]>([
    ['in iptables mode', async () => {}],
    ['when eBPF comes', () => flipTo(ebpf)],
    [
      'when the agent was killed, and while it is away',
      async () => {
        await node.killAgent();
        await throughPod();
        await node.startAgent();
        await noteIds();
      },
    ],
    [
      'when the agent was stopped',
      async () => {
        await node.stopAgent();
        await node.startAgent();
      },
    ],
    ['when eBPF goes', () => flipTo(iptables)],
    ['when it comes again', () => flipTo(ebpf)],
  ])('run on %s', async (_, doing) => {
    await doing();
    await allRun([...onUplinks, ...onPod.all], throughPod);
  });

  it('run on after cleanup in eBPF mode, of which no program, map, link, pin, qdisc or rule is left', async () => {
    await noteIds();
    for (const kind of ['prog', 'map', ...(hasTcx ? (['link'] as const) : [])] as const)
      expect(ids.count(kind)).toBeGreaterThan(0);
    await Promise.all(lab.nodes.map((each) => each.stopAgent()));
    for (const each of lab.nodes) expect(await each.tortie('cleanup', '--force')).toMatchObject({ status: 0 });
    await allRun(onUplinks, async () => {
      for (const each of lab.nodes) await each.exec('ping', '-c', '2', '-i', '0.1', lab.outsideAddresses.ipv4);
    });
    expect(await Promise.all(lab.nodes.map(snapshotOf))).toEqual(before);
    for (const { 'BPF programs': still } of before) expect(still).toHaveLength(hasTcx ? 4 : 2);
    // The kernel frees what nobody holds in its own time.
    await eventually(
      async () => (await ids.left()).length === 0,
      () => ids.left(),
    );
  });
});
