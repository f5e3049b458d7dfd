import { describe, expect, test } from '@jest/globals';
import type { IptablesDataplane } from '#dataplanes/iptables/iptables.ts';
import { policySetName } from '#dataplanes/iptables/render/names.ts';
import type { DataplaneUpdate } from '#dataplanes/messages.ts';
import type { HostEndpointInfo, PeerMatch, RuleInfo, TierInfo } from '#dataplanes/policy.ts';
import { ALLOW_ALL, ANY_RULE } from '#dataplanes/shared/test-config.ts';
import { announce, isCutOff, labConfig, type LabPod, NodeLab, reaches } from './iptables-lab.ts';

const POLICY = 'NetworkPolicy default/p';
const tell = (dataplane: IptablesDataplane, ...updates: DataplaneUpdate[]): void => {
  for (const update of updates) dataplane.onUpdate(update);
};
const rule = (index: number, more: Partial<RuleInfo> = {}): RuleInfo => ({
  ...ANY_RULE,
  id: `${POLICY} ingress ${index}`,
  action: 'allow',
  ...more,
});
const peer = (more: Partial<PeerMatch>): PeerMatch => ({ ...ANY_RULE.source, ...more });
const ingress = (rules: readonly RuleInfo[], staged = false): DataplaneUpdate => ({
  type: 'policyUpdate',
  id: POLICY,
  policy: { tier: 'default', staged, ingress: rules, egress: [] },
});
const selected: TierInfo[] = [{ name: 'default', defaultAction: 'deny', ingress: [POLICY], egress: [] }];
const netSet = (id: string, ...members: readonly string[]): DataplaneUpdate => ({
  type: 'ipSetUpdate',
  id,
  setType: 'net',
  members,
});
const addressesOf = ({ endpoint }: LabPod): string[] => [...endpoint.ipv4Nets, ...endpoint.ipv6Nets];
const withoutLength = (net: string): string => net.replace(/\/.*$/, '');

const cases = (['nft', 'legacy'] as const).flatMap((variant) =>
  ([4, 6] as const).map((family) => ({ variant, family })),
);

describe.each(cases)('policy in the kernel, iptables-$variant, IPv$family', ({ variant, family }) => {
  const [prefix, upstream] = family === 4 ? ['10.65.0.', '192.0.2.1'] : ['fd00:65::', '2001:db8::1'];
  /** The dataplane in the path of three pods, of which the second is selected by the policy. */
  const start = async (
    lab: NodeLab,
    ...updates: DataplaneUpdate[]
  ): Promise<{ dataplane: IptablesDataplane; pods: [LabPod, LabPod, LabPod] }> => {
    const pods: [LabPod, LabPod, LabPod] = [await lab.addPod(1), await lab.addPod(2), await lab.addPod(3)];
    const dataplane = lab.dataplane();
    tell(dataplane, labConfig(variant), ALLOW_ALL, ...updates);
    tell(dataplane, announce(1, pods[0]), announce(2, pods[1], { tiers: selected }), announce(3, pods[2]));
    tell(dataplane, { type: 'inSync' });
    expect((await dataplane.apply()).failed).toEqual([]);
    await dataplane.activate();
    return { dataplane, pods };
  };

  test('a set decides who gets through, and its members change without a process', async () => {
    await using lab = await NodeLab.create();
    const bySet = ingress([rule(0, { source: peer({ sets: ['s:clients'] }) })]);
    const { dataplane, pods } = await start(lab, netSet('s:clients', `${prefix}1/${family === 4 ? 32 : 128}`), bySet);
    const [one, , three] = pods;
    await reaches(one.netns, `${prefix}2`);
    await isCutOff(three.netns, `${prefix}2`);
    await reaches(lab.node, `${prefix}2`); // The pod's own host.
    const runs = lab.runs.length;
    tell(dataplane, { type: 'ipSetDelta', id: 's:clients', added: addressesOf(three), removed: [] });
    expect((await dataplane.apply()).failed).toEqual([]);
    await reaches(three.netns, `${prefix}2`);
    tell(dataplane, { type: 'ipSetDelta', id: 's:clients', added: [], removed: addressesOf(three) });
    await dataplane.apply();
    await isCutOff(three.netns, `${prefix}2`);
    expect(lab.runs).toHaveLength(runs);
  });

  test('counters tell what each rule has matched, a staged one too, and outlive a rule that is added', async () => {
    await using lab = await NodeLab.create();
    const icmp = { protocol: family === 4 ? 1 : 58 };
    const { dataplane, pods } = await start(lab, ingress([rule(0, { ...icmp })]));
    const counted = async (index: number): Promise<number> =>
      (await dataplane.ruleCounters()).get(`${POLICY} ingress ${index}`)?.packets ?? -1;
    expect(await counted(0)).toBe(0);
    for (let n = 1; n <= 3; n += 1) {
      await reaches(pods[0].netns, `${prefix}2`); // A process each: a flow each.
      expect(await counted(0)).toBe(n);
    }
    tell(dataplane, ingress([rule(0, { ...icmp }), rule(1, { action: 'deny' })]));
    expect((await dataplane.apply()).failed).toEqual([]);
    expect(await counted(0)).toBe(3);
    await reaches(pods[0].netns, `${prefix}2`);
    expect([await counted(0), await counted(1)]).toEqual([4, 0]);
    tell(dataplane, ingress([rule(0, { ...icmp, action: 'deny' })], true));
    expect((await dataplane.apply()).failed).toEqual([]);
    await reaches(pods[0].netns, `${prefix}2`);
    expect(await counted(0)).toBe(5);
  });

  test('a pod that moves from one list of policies to another and back loses no packet that both allow', async () => {
    await using lab = await NodeLab.create();
    const { dataplane, pods } = await start(lab, ingress([rule(0)]));
    // Every packet is a new flow: nothing is excused as established.
    const flood = pods[0].netns.exec(
      'sh',
      '-c',
      `for i in $(seq 1 60); do ping -q -c 1 -W 30 ${prefix}2 >/dev/null || echo lost; done`,
    );
    for (let turn = 0; turn < 12; turn += 1) {
      tell(dataplane, announce(2, pods[1], { tiers: turn % 2 === 0 ? [] : selected }));
      expect(await dataplane.apply()).toMatchObject({ failed: [], programmed: ['k8s/default/pod-2/eth0'] });
    }
    expect(await flood).toBe('');
  });

  test('connections of a pod that is removed are gone when it is reported so; those of others stay', async () => {
    await using lab = await NodeLab.create();
    const { dataplane, pods } = await start(lab, ingress([rule(0)]));
    // Else they end by themselves after half a minute.
    const timeout = family === 4 ? 'icmp' : 'icmpv6';
    await lab.node.exec('sysctl', '-qw', `net.netfilter.nf_conntrack_${timeout}_timeout=600`);
    await reaches(pods[0].netns, `${prefix}2`);
    await reaches(pods[2].netns, `${prefix}2`);
    const connections = async (): Promise<string> =>
      lab.node.exec('sh', '-c', `conntrack -L -f ipv${family} 2>/dev/null`);
    expect(await connections()).toContain(`src=${prefix}1 `);
    tell(dataplane, { type: 'workloadEndpointRemove', id: 'k8s/default/pod-1/eth0' });
    let removed: readonly string[] = [];
    for (let cycle = 0; cycle < 1500 && removed.length === 0; cycle += 1) {
      removed = (await dataplane.apply()).removed;
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
    expect(removed).toEqual(['k8s/default/pod-1/eth0']);
    expect(await connections()).not.toContain(`src=${prefix}1 `);
    expect(await connections()).toContain(`src=${prefix}3 `);
  });

  test('a host endpoint is enforced on the device that has one of its addresses, as addresses come and go', async () => {
    await using lab = await NodeLab.create();
    const extra = family === 4 ? '192.0.2.77' : '2001:db8::77';
    const endpoint: HostEndpointInfo = {
      expectedIps: [extra],
      profiles: [],
      tiers: [],
      forwardTiers: [],
      preDnatTiers: [],
      untrackedTiers: [],
    };
    const { dataplane } = await start(lab, ingress([rule(0)]), { type: 'hostEndpointUpdate', id: 'up', endpoint });
    let disturbed = Promise.withResolvers<void>();
    dataplane.onDisturbed(() => disturbed.resolve());
    await reaches(lab.outside, upstream);
    for (const verb of ['add', 'del', 'add']) {
      disturbed = Promise.withResolvers<void>();
      await lab.node.exec('ip', 'addr', verb, `${extra}/${family === 4 ? 24 : 64}`, 'dev', 'up0');
      await disturbed.promise;
      expect((await dataplane.apply()).failed).toEqual([]);
      if (verb === 'add') await isCutOff(lab.outside, upstream);
      else await reaches(lab.outside, upstream);
    }
    tell(dataplane, { type: 'hostEndpointRemove', id: 'up' });
    expect((await dataplane.apply()).failed).toEqual([]);
    await reaches(lab.outside, upstream);
  });
});

describe.each(['nft', 'legacy'] as const)('policy under bad conditions (iptables-%s)', (variant) => {
  const everything = (pods: readonly LabPod[]): DataplaneUpdate[] => [
    labConfig(variant),
    ALLOW_ALL,
    netSet('s:clients', ...pods.slice(0, 1).flatMap(addressesOf)),
    { type: 'ipSetUpdate', id: 'n:http', setType: 'ipPort', members: ['10.65.0.2,6:80', 'fd00:65::2,17:53'] },
    ingress([
      rule(0, { source: peer({ sets: ['s:clients'] }) }),
      rule(1, { protocol: 6, destination: peer({ portSets: ['n:http'] }) }),
    ]),
    ...pods.map((pod, index) => announce(index + 1, pod, index === 1 ? { tiers: selected } : {})),
  ];

  test('a successor after a kill that knows the same writes nothing, whatever it hears first', async () => {
    await using lab = await NodeLab.create();
    const pods = [await lab.addPod(1), await lab.addPod(2)];
    const first = lab.dataplane();
    tell(first, ...everything(pods), { type: 'inSync' });
    expect((await first.apply()).failed).toEqual([]);
    await first.activate();
    const [restores, before] = [lab.restores, await lab.snapshot()];
    const flood = pods[0]?.netns.exec(
      'sh',
      '-c',
      'for i in $(seq 1 40); do ping -q -c 1 -W 30 10.65.0.2 || exit 1; done',
    );
    const second = lab.dataplane();
    // In pieces, a cycle after each: what isn't known yet must not be taken away.
    for (const update of everything(pods)) {
      tell(second, update);
      expect(await second.apply()).toMatchObject({ failed: [], programmed: [] });
    }
    tell(second, { type: 'inSync' });
    expect((await second.apply()).programmed).toHaveLength(2);
    await second.activate();
    await flood;
    expect(lab.restores).toBe(restores);
    expect(await lab.snapshot()).toBe(before);
  });

  test.each([
    ['our chains flushed', 'for t in filter raw; do $4 -t $t -F; done'],
    ['our chains flushed and deleted', '$4 -F; $4 -X'],
    ['one rule of a policy deleted', 'c=$($4-save | grep -o "cali-pi-[^ ]*" | head -1); $4 -D $c 1'],
    ['a rule put into a policy', 'c=$($4-save | grep -o "cali-pi-[^ ]*" | head -1); $4 -I $c -j ACCEPT'],
    ['the jump to us deleted', '$4 -D FORWARD 1'],
    ['our jump behind a rule of others', '$4 -I FORWARD -j ACCEPT'],
    ["a set's members flushed", `ipset flush ${policySetName(4, 's:clients')}`],
    ['members put into a set', `ipset add ${policySetName(4, 's:clients')} 10.65.0.0/24`],
    [
      'everything destroyed',
      '$4 -F; $4 -X; $4 -t raw -F; $4 -t raw -X; $6 -F; $6 -X; $6 -t raw -F; $6 -t raw -X; ipset destroy',
    ],
  ])('%s is repaired, and said', async (_what, script) => {
    await using lab = await NodeLab.create();
    const pods = [await lab.addPod(1), await lab.addPod(2), await lab.addPod(3)];
    const dataplane = lab.dataplane();
    tell(dataplane, ...everything(pods), { type: 'inSync' });
    await dataplane.apply();
    await dataplane.activate();
    const good = await lab.snapshot();
    const damage = script.replaceAll('$4', `iptables-${variant}`).replaceAll('$6', `ip6tables-${variant}`);
    await lab.node.exec('sh', '-ec', damage);
    expect(await lab.snapshot()).not.toBe(good);
    dataplane.requestResync();
    const { failed, repaired } = await dataplane.apply();
    expect(failed).toEqual([]);
    expect(repaired).not.toEqual([]);
    if (!damage.includes('-I FORWARD')) expect(sorted(await lab.snapshot())).toEqual(sorted(good));
    const [one, , three] = pods;
    if (one === undefined || three === undefined) throw new Error('the lab has no pods');
    await reaches(one.netns, '10.65.0.2');
    await isCutOff(three.netns, '10.65.0.2');
  });

  test('a set that is too small is reported by what it stands for, with the pods that need it', async () => {
    await using lab = await NodeLab.create();
    const pods = [await lab.addPod(1), await lab.addPod(2)];
    const dataplane = lab.dataplane();
    const many = Array.from({ length: 200 }, (_, n) => `10.1.0.${n}/32`);
    tell(dataplane, ...everything(pods), labConfig(variant, { maxIpsetSize: 64 }));
    tell(dataplane, { type: 'ipSetUpdate', id: 's:clients', setType: 'net', members: many, about: "role == 'client'" });
    tell(dataplane, { type: 'inSync' });
    const { failed, programmed } = await dataplane.apply();
    expect(programmed).toEqual(['k8s/default/pod-1/eth0']);
    expect(failed).toContainEqual({
      object: expect.stringMatching(/^ipset cali40s-\S+ \(role == 'client'\)$/),
      reason: expect.stringMatching(/10\.1\.0\.\d+: .*the set is full/),
    });
    expect(failed.filter(({ endpoint }) => endpoint !== undefined).map(({ endpoint }) => endpoint)).toEqual([
      'k8s/default/pod-2/eth0',
    ]);
    tell(dataplane, labConfig(variant));
    expect(await dataplane.apply()).toMatchObject({ failed: [], programmed: ['k8s/default/pod-2/eth0'] });
  });

  test('a rule that the tools refuse fails its policy and its pods, and nobody else', async () => {
    await using lab = await NodeLab.create();
    const pods = [await lab.addPod(1), await lab.addPod(2)];
    const dataplane = lab.dataplane();
    tell(dataplane, ...everything(pods));
    // No message of calc's has such a network.
    tell(dataplane, ingress([rule(0, { ipVersion: 4, source: peer({ net: '10.0.0.0/99' }) })]), { type: 'inSync' });
    const { failed, programmed } = await dataplane.apply();
    expect(programmed).toEqual(['k8s/default/pod-1/eth0']);
    expect(failed.map(({ object }) => object)).toEqual([POLICY, 'endpoint k8s/default/pod-2/eth0']);
    await dataplane.activate();
    await isCutOff(lab.outside, withoutLength(pods[1]?.endpoint.ipv4Nets[0] ?? ''));
    tell(dataplane, ingress([rule(0)]));
    expect(await dataplane.apply()).toMatchObject({ failed: [], programmed: ['k8s/default/pod-2/eth0'] });
  });

  test('5,000 rules in one policy are written, compared and changed', async () => {
    await using lab = await NodeLab.create();
    const pods = [await lab.addPod(1), await lab.addPod(2)];
    const rules = Array.from({ length: 5_000 }, (_, n) =>
      rule(n, { protocol: 6, destination: peer({ ports: [{ min: n + 1, max: n + 1 }] }) }),
    );
    const dataplane = lab.dataplane();
    tell(dataplane, ...everything(pods), ingress([...rules, rule(5_000)]), { type: 'inSync' });
    expect((await dataplane.apply()).failed).toEqual([]);
    await dataplane.activate();
    await reaches((pods[0] as LabPod).netns, '10.65.0.2');
    expect((await dataplane.ruleCounters()).get(`${POLICY} ingress 5000`)?.packets).toBe(1);
    const restores = lab.restores;
    dataplane.requestResync();
    expect(await dataplane.apply()).toMatchObject({ failed: [], repaired: [] });
    expect(lab.restores).toBe(restores);
    tell(dataplane, ingress(rules));
    expect((await dataplane.apply()).failed).toEqual([]);
    await isCutOff((pods[0] as LabPod).netns, '10.65.0.2');
  });
});

const sorted = (snapshot: string): string[] => snapshot.split('\n').sort();
