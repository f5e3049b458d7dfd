/** Containers come and go, and what addresses they get. */
import { eventually } from '#test/lab/agent-lab.ts';
import {
  assertNoAddressTwice,
  containerDevices,
  inUseBecomes,
  objectsOf,
  settledAddressesInUse,
} from '#test/lab/cluster-view.ts';
import type { LabPod, PodOptions } from '#test/lab/lab-pod.ts';
import type { Bed } from '../bed.ts';
import { clusterInformation, ipamConfiguration, namespaceObject, pool, reservation } from '../objects.ts';
import { lacking, provedElsewhere, type Manifest, type Row } from '../row.ts';

const annotated = (annotations: Readonly<Record<string, unknown>>): PodOptions => ({
  annotations: Object.fromEntries(
    Object.entries(annotations).map(([name, value]) => [`cni.projectcalico.org/${name}`, JSON.stringify(value)]),
  ),
});
const fromPools = (...names: string[]): PodOptions =>
  annotated({ ipv4pools: names.map((name) => `${name}-v4`), ipv6pools: names.map((name) => `${name}-v6`) });

/** A pool a family, which nobody gets an address of without asking. */
const pools = (
  name: string,
  v4: string,
  v6: string,
  spec: object = {},
  sizes?: readonly [number, number],
): Manifest[] =>
  [v4, v6].map((cidr, index) =>
    pool(`${name}-v${index === 0 ? 4 : 6}`, {
      cidr,
      nodeSelector: "nobody == 'here'",
      ...spec,
      ...(sizes === undefined ? {} : { blockSize: sizes[index] }),
    }),
  );

/** The row's pools are known to the node's agent: a pod that asks for them gets its addresses. */
async function addWhenKnown(bed: Bed, node: string, name: string, options: PodOptions): Promise<LabPod> {
  const pod = await bed.createPod(node, name, options);
  for (const deadline = Date.now() + 30_000; ;) {
    const failure = await pod.tryAdd();
    if (failure === undefined) return pod;
    if (Date.now() > deadline) throw new Error(`ADD of ${name}: ${failure.msg}`);
    await pod.tryDel();
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}

async function mustFail(pod: LabPod, pattern: RegExp): Promise<void> {
  const failure = await pod.tryAdd();
  if (failure === undefined) throw new Error(`ADD of ${pod.name} succeeded with ${pod.addresses.join()}`);
  if (!pattern.test(failure.msg)) throw new Error(`ADD of ${pod.name} failed for another reason: ${failure.msg}`);
}

function mustBeIn(pod: LabPod, ...prefixes: readonly string[]): void {
  for (const [index, prefix] of prefixes.entries()) {
    const address = pod.addresses[index] ?? '';
    if (!address.startsWith(prefix)) throw new Error(`${pod.name} has ${address}, not ${prefix}...`);
  }
}

const works = (name: string) => ({ reaches: [`${name} > client,far tcp,udp`, `client,far > ${name} tcp,udp`] });

export const addresses: readonly Row[] = [
  provedElsewhere(
    'a Pod has podIP, podIPs and containerID as annotations after ADD, and blank ones after DEL',
    ['core 3'],
    'test/kernel/kubernetes-agent.test.ts',
    'write on a Pod what it has, blank it after its DEL, and pods of two nodes talk',
  ),
  {
    name: 'a new sandbox of a pod replaces the old one, whose late DEL does no harm',
    source: ['core 4', 'core 6'],
    phases: [
      {
        do: [
          {
            act: 'a pod gets a new sandbox',
            run: async (bed) => {
              const pod = await bed.addPod('node1', 'again');
              const old = pod.container;
              await pod.renewSandbox();
              await bed.wire('node1', pod);
              const { status, stdout } = await pod.cni('DEL', { container: old });
              if (status !== 0) throw new Error(`the late DEL failed: ${stdout}`);
              await pod.peer();
            },
          },
        ],
        expect: {
          ...works('again'),
          also: {
            'it has one device': async (bed) => {
              const devices = await containerDevices(bed.node('node1'));
              const mine = devices.filter((device) => device.includes(bed.pod('again').container));
              const all = devices.filter((device) => device.includes('again'));
              return mine.length === 1 && all.length <= 1 ? undefined : devices.join('\n');
            },
          },
        },
      },
    ],
  },
  {
    name: 'DEL succeeds again, and without the namespace; addresses and handles are given back',
    source: ['core 5'],
    phases: [
      {
        do: [
          {
            act: 'pods are deleted twice, one after its namespace',
            run: async (bed) => {
              const before = await settledAddressesInUse(bed.lab);
              const handles = objectsOf(bed.lab, 'IPAMHandle').length;
              const one = await bed.addPod('node1', 'twice');
              const other = await bed.addPod('node1', 'bare');
              for (const pod of [one, one]) await pod.del();
              await other.loseNamespace();
              for (const pod of [other, other]) await pod.del();
              await inUseBecomes(bed.lab, before);
              // A handle goes when its blocks are written.
              const left = () => objectsOf(bed.lab, 'IPAMHandle').length - handles;
              await eventually(
                () => left() <= 0,
                () => `${left()} handles are left`,
              );
            },
          },
        ],
      },
    ],
  },
  {
    name: 'an ADD that fails after it has got addresses gives them back',
    source: ['core 7'],
    phases: [
      {
        do: [
          {
            act: "a pod's address has a route already",
            run: async (bed) => {
              const node = bed.node('node1');
              const before = await settledAddressesInUse(bed.lab);
              await node.exec('ip', 'route', 'add', '10.65.200.77/32', 'dev', 'uplink', 'metric', '1024');
              bed.onRowEnd(() => node.exec('ip', 'route', 'del', '10.65.200.77/32', 'dev', 'uplink', 'metric', '1024'));
              await mustFail(
                await bed.createPod('node1', 'blocked', annotated({ ipAddrs: ['10.65.200.77'] })),
                /10\.65\.200\.77/,
              );
              await inUseBecomes(bed.lab, before);
            },
          },
        ],
      },
    ],
  },
  {
    name: 'while the datastore is said not to be ready, ADD fails and running traffic goes on',
    source: ['core 8'],
    given: [clusterInformation({ datastoreReady: false })],
    phases: [
      {
        do: [
          { flow: 'tcp', line: 'client > far' },
          {
            act: 'ADD is refused once that is known',
            run: async (bed) => {
              const pod = await bed.createPod('node1', 'early');
              for (const deadline = Date.now() + 30_000; ;) {
                const failure = await pod.tryAdd();
                if (/not ready/.test(failure?.msg ?? '')) return;
                if (Date.now() > deadline) throw new Error(`the last answer was: ${JSON.stringify(failure)}`);
                await pod.tryDel();
                await new Promise((resolve) => setTimeout(resolve, 50));
              }
            },
          },
        ],
        expect: { flows: { tcp: 'runs' }, reaches: ['client > far,web'] },
      },
    ],
  },
  {
    name: 'without an agent ADD answers "try again" and says who is missing; pods are not disturbed',
    source: ['core 9', 'core 40'],
    phases: [
      {
        do: [
          { kill: 'node1' },
          {
            act: 'ADD is refused',
            run: async (bed) => {
              const failure = await (await bed.createPod('node1', 'orphan')).tryAdd();
              if (failure?.code !== 11 || !/agent/.test(failure.msg)) throw new Error(JSON.stringify(failure));
            },
          },
        ],
        expect: { reaches: ['client > far,web tcp,udp', 'far > client tcp,udp'] },
      },
      {
        do: [{ start: 'node1' }, { act: 'ADD succeeds', run: async (bed) => bed.wire('node1', bed.pod('orphan')) }],
        expect: works('orphan'),
      },
    ],
  },
  {
    name: "a pod's pools come before its namespace's; one that is disabled or full is no reason to take another",
    source: ['core 10'],
    given: [
      ...pools('mine', '10.67.0.0/24', 'fd67::/112'),
      ...pools('theirs', '10.67.1.0/24', 'fd67::1:0/112'),
      ...pools('closed', '10.67.2.0/24', 'fd67::2:0/112', { disabled: true }),
      ...pools('full', '10.67.3.0/30', 'fd67::3:0/126', {}, [30, 126]),
      {
        ...namespaceObject('pooled'),
        metadata: {
          name: 'pooled',
          annotations: {
            'cni.projectcalico.org/ipv4pools': '["theirs-v4"]',
            'cni.projectcalico.org/ipv6pools': '["theirs-v6"]',
          },
        },
      },
    ],
    phases: [
      {
        do: [
          {
            act: 'pods of these pools',
            run: async (bed) => {
              const byNamespace = await addWhenKnown(bed, 'node1', 'by-namespace', { namespace: 'pooled' });
              const byPod = await addWhenKnown(bed, 'node1', 'by-pod', { namespace: 'pooled', ...fromPools('mine') });
              mustBeIn(byNamespace, '10.67.1.', 'fd67::1:');
              mustBeIn(byPod, '10.67.0.', 'fd67::');
              await mustFail(await bed.createPod('node1', 'refused', fromPools('closed')), /closed|disabled/);
              for (const n of [1, 2, 3, 4]) await addWhenKnown(bed, 'node1', `filler${n}`, fromPools('full'));
              await mustFail(await bed.createPod('node1', 'late', fromPools('full')), /full|no .*address|none/i);
            },
          },
        ],
        expect: works('by-pod'),
      },
    ],
  },
  {
    name: 'a pod gets the address that it asks for, and a second one that asks for it gets none',
    source: ['core 11'],
    phases: [
      {
        do: [
          {
            act: 'two pods ask for one address',
            run: async (bed) => {
              const wish = annotated({ ipAddrs: ['10.65.201.9', 'fd65::c9:9'] });
              const first = await bed.addPod('node1', 'first', wish);
              mustBeIn(first, '10.65.201.9', 'fd65::c9:9');
              await mustFail(await bed.createPod('node1', 'second', wish), /10\.65\.201\.9|fd65::c9:9/);
            },
          },
        ],
        expect: works('first'),
      },
    ],
  },
  {
    name: 'reserved addresses are given to nobody who has not asked for them',
    source: ['core 12'],
    given: [
      ...pools('few', '10.67.4.0/30', 'fd67::4:0/126', {}, [30, 126]),
      reservation('most', ['10.67.4.0/31', '10.67.4.2/32', 'fd67::4:0/127', 'fd67::4:2/128']),
    ],
    phases: [
      {
        do: [
          {
            act: 'pods of the rest',
            run: async (bed) => {
              mustBeIn(await addWhenKnown(bed, 'node1', 'lucky', fromPools('few')), '10.67.4.3', 'fd67::4:3');
              await mustFail(
                await bed.createPod('node1', 'unlucky', fromPools('few')),
                /full|no .*address|none|reserved/i,
              );
              mustBeIn(
                await bed.addPod('node1', 'asking', annotated({ ipAddrs: ['10.67.4.1', 'fd67::4:1'] })),
                '10.67.4.1',
                'fd67::4:1',
              );
            },
          },
        ],
        expect: works('asking'),
      },
    ],
  },
  {
    name: 'a pool with a nodeSelector is used on the nodes that it selects',
    source: ['core 13'],
    given: pools('second', '10.67.5.0/24', 'fd67::5:0/112', { nodeSelector: "kubernetes.io/hostname == 'node2'" }),
    phases: [
      {
        do: [
          {
            act: 'the other pools are closed',
            run: async (bed) => {
              bed.lab.applyPools({ disabled: true });
              bed.onRowEnd(async () => bed.lab.applyPools());
              // Whoever has heard of what comes after them has heard of the pools.
              bed.inForce.change([]);
              await bed.inForce.reached();
              const there = await bed.createPod('node2', 'there');
              const isThere = () => there.ipv4.startsWith('10.67.5.') && there.ipv6.startsWith('fd67::5:');
              for (const deadline = Date.now() + 30_000; ;) {
                const failure = await there.tryAdd();
                if (isThere()) break;
                if (Date.now() > deadline) throw new Error(`there: ${failure?.msg ?? there.addresses.join()}`);
                await there.del();
                await new Promise((resolve) => setTimeout(resolve, 100));
              }
              await mustFail(await bed.createPod('node1', 'here'), /pool/);
            },
          },
        ],
        expect: works('there'),
      },
    ],
  },
  {
    name: 'a node takes a second block when its first is full, and borrows when there is none, unless affinity is strict',
    source: ['core 14'],
    given: [
      ...pools('blocks', '10.67.6.0/28', 'fd67::6:0/124', {}, [30, 126]),
      ...pools('one', '10.67.7.0/30', 'fd67::7:0/126', {}, [30, 126]),
      ipamConfiguration({ strictAffinity: true, autoAllocateBlocks: true, maxBlocksPerHost: 0 }),
    ],
    phases: [
      {
        do: [
          {
            act: 'five pods of blocks of four, and two nodes for one block',
            run: async (bed) => {
              const affinities = () =>
                objectsOf(bed.lab, 'BlockAffinity').filter((name) => /10-67-6-/.test(name)).length;
              for (const n of [1, 2, 3, 4, 5]) await addWhenKnown(bed, 'node1', `blocks${n}`, fromPools('blocks'));
              if (affinities() !== 2) throw new Error(`${affinities()} affinities, not 2`);
              await addWhenKnown(bed, 'node1', 'owner', fromPools('one'));
              await mustFail(await bed.createPod('node2', 'stranded', fromPools('one')), /./);
            },
          },
        ],
        expect: works('owner'),
      },
      {
        do: [
          { apply: [ipamConfiguration({ strictAffinity: false, autoAllocateBlocks: true, maxBlocksPerHost: 0 })] },
          {
            act: 'the other node borrows',
            run: async (bed) =>
              mustBeIn(await addWhenKnown(bed, 'node2', 'guest', fromPools('one')), '10.67.7.', 'fd67::7:'),
          },
        ],
        expect: { reaches: ['guest > owner,client,far tcp,udp', 'owner,client,far > guest tcp,udp'] },
      },
    ],
  },
  {
    name: 'two nodes that want many addresses at once get each of them once',
    source: ['core 15'],
    given: pools('raced', '10.67.8.0/24', 'fd67::8:0/120', {}, [29, 125]),
    phases: [
      {
        do: [
          {
            act: 'sixteen pods on each node at once',
            run: async (bed) => {
              const first = await addWhenKnown(bed, 'node1', 'raced', fromPools('raced'));
              const before = await settledAddressesInUse(bed.lab);
              const pods = await Promise.all(
                ['node1', 'node2'].flatMap((node) =>
                  Array.from({ length: 16 }, async (_, n) => {
                    const pod = await bed.node(node).createPod(`raced-${node}-${n}`, fromPools('raced'));
                    bed.onRowEnd(async () => {
                      await pod.del();
                      await pod.destroy();
                    });
                    await pod.add();
                    return pod;
                  }),
                ),
              );
              assertNoAddressTwice([first, ...pods]);
              await inUseBecomes(bed.lab, before + 2 * pods.length);
            },
          },
        ],
      },
    ],
  },
  provedElsewhere(
    'addresses of a pod that died without a DEL come back after the grace time, never while it lives',
    ['core 16'],
    'test/kernel/kubernetes-gc.test.ts',
  ),
  provedElsewhere("a deleted node's blocks and addresses come back", ['core 17'], 'test/kernel/kubernetes-gc.test.ts'),
  lacking('VXLAN: nodes of one subnet directly, others on port 4789 with the computed MAC', ['core 35'], 'VXLAN'),
  lacking("a pod's MTU leaves room for VXLAN, and full-size transfers pass", ['core 36'], 'VXLAN'),
];
