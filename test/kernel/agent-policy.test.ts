/** `tortie policy show` and `tortie explain` on real nodes: what they say is what happens to packets. */
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { isDeepStrictEqual } from 'node:util';
import { askAgent } from '#agent/admin/client.ts';
import type { Explanation } from '#agent/explain/explain.ts';
import type { EndpointPolicyReport } from '#agent/explain/policy-report.ts';
import { addressOf, eventually, families, startAgentLab, type FamilyRow } from '#test/lab/agent-lab.ts';
import { must } from '#test/lab/exec.ts';
import type { Lab } from '#test/lab/lab.ts';
import type { LabNode } from '#test/lab/lab-node.ts';
import type { Peer } from '#test/lab/peer-client.ts';

const v3 = 'projectcalico.org/v3';
const serves = [80, 8080, 7777, 5353] as const;
/** Nothing answers in this time: nothing will. In ms. */
const silenceMs = 300;
/** What is asked again: long enough for an answer on a busy machine. */
const patienceMs = 10_000;

const tier = {
  apiVersion: v3,
  kind: 'Tier',
  metadata: { name: 'security' },
  spec: { order: 100, defaultAction: 'Pass' },
};
const tiered = (ingress: readonly object[]) => ({
  apiVersion: v3,
  kind: 'GlobalNetworkPolicy',
  metadata: { name: 'security.guard' },
  spec: { tier: 'security', order: 10, selector: "app == 'web'", types: ['Ingress'], ingress },
});
const kubernetes = {
  apiVersion: 'networking.k8s.io/v1',
  kind: 'NetworkPolicy',
  metadata: { name: 'web', namespace: 'default' },
  spec: {
    podSelector: { matchLabels: { app: 'web' } },
    policyTypes: ['Ingress'],
    ingress: [
      {
        from: [
          { podSelector: { matchLabels: { app: 'client' } } },
          { namespaceSelector: { matchLabels: { team: 'shop' } } },
        ],
        ports: [
          { protocol: 'TCP', port: 'http' },
          { protocol: 'TCP', port: 80 },
          { protocol: 'UDP', port: 5000, endPort: 6000 },
        ],
      },
    ],
  },
};
const namespaced = {
  apiVersion: v3,
  kind: 'NetworkPolicy',
  metadata: { name: 'db', namespace: 'shop' },
  spec: {
    order: 5,
    selector: "app == 'db'",
    types: ['Ingress', 'Egress'],
    ingress: [
      { action: 'Log' },
      { action: 'Deny', protocol: 'UDP', destination: { notPorts: [7777] } },
      { action: 'Allow', notProtocol: 'ICMP', source: { notSelector: "app == 'client'" } },
      { action: 'Allow', ipVersion: 4, protocol: 'ICMP', icmp: { type: 8 } },
      {
        action: 'Deny',
        protocol: 'TCP',
        source: { namespaceSelector: "team == 'none'" },
        destination: { ports: [80] },
      },
      { action: 'Allow', protocol: 'TCP' },
    ],
    egress: [
      {
        action: 'Deny',
        protocol: 'TCP',
        destination: { selector: "app == 'web'", namespaceSelector: 'all()', ports: ['8000:9000'] },
      },
      { action: 'Deny', protocol: 'UDP', destination: { nets: ['172.31.0.1/32'] } },
      { action: 'Deny', protocol: 'UDP', destination: { nets: ['fd31::1/128'] } },
      { action: 'Allow' },
    ],
  },
};
const staged = {
  apiVersion: v3,
  kind: 'StagedGlobalNetworkPolicy',
  metadata: { name: 'trial' },
  spec: { order: 1, selector: "app == 'web'", types: ['Ingress'], ingress: [{ action: 'Deny', protocol: 'TCP' }] },
};
const guard = [
  {
    action: 'Deny',
    source: { nets: ['172.31.0.1/32', '172.31.0.99/32'] },
    protocol: 'TCP',
    destination: { ports: [80] },
  },
  { action: 'Deny', source: { nets: ['fd31::1/128', 'fd31::99/128'] }, protocol: 'TCP', destination: { ports: [80] } },
  { action: 'Allow', protocol: 'TCP', source: { nets: ['172.31.0.1/32'] } },
  { action: 'Deny', protocol: 'UDP', source: { selector: "app == 'client'" }, destination: { ports: [7777] } },
];
const all = [tier, tiered(guard), kubernetes, namespaced, staged];

/** Somebody who asks and is asked. `text`: how `explain` is given the name, where it isn't an address. */
interface Party {
  readonly name: string;
  readonly text?: string;
  readonly node: LabNode | undefined;
  readonly ipv4: string;
  readonly ipv6: string;
  readonly peer: Peer;
}

describe('policy on two nodes, iptables', () => {
  let lab: Lab;
  let parties: Readonly<Record<'client' | 'web' | 'db' | 'far' | 'node1' | 'node2' | 'outside', Party>>;

  beforeAll(async () => {
    lab = await startAgentLab({ bpfEnabled: false, felix: { defaultEndpointToHostAction: 'Accept' } });
    lab.apply('namespace', [
      { apiVersion: 'v1', kind: 'Namespace', metadata: { name: 'default', labels: { team: 'none' } } },
      { apiVersion: 'v1', kind: 'Namespace', metadata: { name: 'shop', labels: { team: 'shop' } } },
    ]);
    const [one, two] = [lab.node(0), lab.node(1)];
    const pod = async (node: LabNode, name: string, app: string, options: object = {}): Promise<Party> => {
      const made = await node.addPod(name, { labels: { app }, serves, ...options });
      await must('ip', '-n', lab.fabric, 'route', 'add', `${made.ipv4}/32`, 'via', node.ipv4);
      await must('ip', '-n', lab.fabric, 'route', 'add', `${made.ipv6}/128`, 'via', node.ipv6);
      const { ipv4, ipv6, namespace } = made;
      return { name, text: `${namespace}/${name}`, node, ipv4, ipv6, peer: await made.peer() };
    };
    const http = { ports: [{ name: 'http', containerPort: 8080 }] };
    const host = async (node: LabNode): Promise<Party> => ({
      name: node.name,
      node,
      ipv4: node.ipv4,
      ipv6: node.ipv6,
      peer: await node.peer(serves),
    });
    parties = {
      client: await pod(one, 'client', 'client'),
      web: await pod(one, 'web', 'web', http),
      db: await pod(one, 'db', 'db', { namespace: 'shop' }),
      far: await pod(two, 'far', 'client'),
      node1: await host(one),
      node2: await host(two),
      outside: { name: 'outside', node: undefined, ...lab.outsideAddresses, peer: await lab.outside(serves) },
    };
  });
  afterAll(() => lab[Symbol.asyncDispose]());

  const show = async (pod: string) =>
    (await askAgent(lab.node(0).runDir, `/policy?endpoint=${encodeURIComponent(pod)}`)) as EndpointPolicyReport;
  /** Waits until the answers of the agents are made from these objects. */
  const apply = async (objects: readonly { readonly metadata: { readonly name: string } }[]) => {
    lab.apply('policy', objects);
    const names = () =>
      askAgent(lab.node(0).runDir, '/state').then((state) => Object.keys((state as { policies: object }).policies));
    const wanted = objects.filter((object) => object !== tier).length;
    await eventually(async () => (await names()).length === wanted, names);
  };
  const explain = async (node: LabNode, from: string, to: string, packet: string, version: 4 | 6) => {
    const [protocol = '', port] = packet.split(' ');
    const query = new URLSearchParams({ source: from, destination: to, protocol, family: String(version) });
    if (port !== undefined) query.set('port', port);
    return (await askAgent(node.runDir, `/explain?${query.toString()}`)) as Explanation;
  };

  describe('explain', () => {
    const packets = ['tcp 80', 'tcp 8080', 'tcp 7777', 'udp 5353', 'udp 7777', 'icmp'];
    const pairs = () => {
      const { client, web, db, far, node1, node2, outside } = parties;
      const pods = [client, web, db];
      return [...pods, far, node1, node2, outside].flatMap((from) =>
        [...pods, ...(pods.includes(from) ? [far, node1, node2, outside] : [])].map((to) => [from, to] as const),
      );
    };
    /** What the nodes that have a say in it answer, all of whom must allow it. */
    const verdict = async (from: Party, to: Party, packet: string, family: FamilyRow) => {
      const nodes = [...new Set([from, to].flatMap(({ node, text }) => (text === undefined ? [] : (node ?? []))))];
      const name = (party: Party) => party.text ?? addressOf(party, family);
      const answers = await Promise.all(
        nodes.map((node) => explain(node, name(from), name(to), packet, family.version)),
      );
      return answers.every((answer) => answer.verdict === 'allow') ? 'allow' : 'deny';
    };
    const fact = async (from: Party, to: Party, packet: string, family: FamilyRow, timeoutMs: number) => {
      const [protocol, port = '0'] = packet.split(' ');
      const asked = { protocol: protocol as 'tcp' | 'udp' | 'icmp', port: Number(port), timeoutMs };
      const answer = await from.peer.probe(addressOf(to, family), asked);
      return ['reaches', 'refused'].includes(answer.verdict) ? 'allow' : 'deny';
    };
    /** The connections of which the packets don't do what is said. */
    const differences = async (family: FamilyRow) => {
      const lines = await Promise.all(
        pairs().flatMap(([from, to]) =>
          packets.map(async (packet) => {
            const said = await verdict(from, to, packet, family);
            let done = await fact(from, to, packet, family, silenceMs);
            if (done !== said) done = await fact(from, to, packet, family, patienceMs);
            const line = { text: `${from.name} > ${to.name} ${packet}: said ${said}`, said, differs: done !== said };
            return line;
          }),
        ),
      );
      return { lines, wrong: lines.filter(({ differs }) => differs).map(({ text }) => text) };
    };

    it.each(families)('$family: its verdict is what packets do, between all kinds of ends', async (family) => {
      await apply(all);
      let last = await differences(family);
      await eventually(
        async () => last.wrong.length === 0 || (last = await differences(family)).wrong.length === 0,
        () => last.wrong.join('\n'),
      );
      const denied = last.lines.filter(({ said }) => said === 'deny').length;
      // A table in which everything (or nothing) passes would prove nothing.
      expect(denied).toBeGreaterThan(30);
      expect(last.lines.length - denied).toBeGreaterThan(60);
    });

    it('names the rule that decides, by name, namespace/name and address alike', async () => {
      await apply(all);
      const [node, { client, web, db, outside }] = [lab.node(0), parties];
      const reason = async (...args: [from: string, to: string, packet: string]) =>
        (await explain(node, ...args, 4)).reason;
      expect(await reason('client', 'default/web', 'udp 7777')).toContain(
        'rule GlobalNetworkPolicy security.guard ingress 3',
      );
      expect(await reason(client.ipv4, web.ipv4, 'tcp 8080')).toContain(
        'KubernetesNetworkPolicy default/web ingress 0',
      );
      expect(await reason(outside.ipv4, 'web', 'udp 80')).toContain('tier default, whose default action is Deny');
      expect(await reason('shop/db', web.ipv4, 'tcp 8080')).toContain('NetworkPolicy shop/db egress 0');
      expect(await reason('host', db.ipv4, 'tcp 80')).toContain('a host may always reach its own pods');
      expect(await reason('web', 'default/far', 'tcp 1')).toContain('Profile kns.default egress 0');
      expect((await explain(node, 'web', 'far', 'tcp 1', 4)).notes.join()).toContain('on node node2: ask there too');
    });

    it('the command prints it for people, with the rules passed over when asked', async () => {
      await apply(all);
      const args = ['explain', 'client', 'web', 'tcp', '7777'] as const;
      const short = await lab.node(0).tortie(...args);
      expect(short).toMatchObject({ status: 0, stderr: '' });
      expect(short.stdout).toMatch(/^DENY {3}ingress of pod default\/web: no rule matched in tier default/);
      expect(short.stdout).toMatch(/StagedGlobalNetworkPolicy trial ingress 0 .*it would deny, and decides nothing/);
      expect(short.stdout).not.toContain('no match');
      const long = await lab.node(0).tortie(...args, '--all');
      expect(long.stdout).toMatch(/security +GlobalNetworkPolicy security.guard ingress 3 +deny +no match +it is for/);
    });

    it.each([
      [['nosuch', 'web', 'tcp', '80'], 'nosuch is no endpoint of this node and no pod in the datastore'],
      [['web', 'client', 'tcp'], 'protocol tcp needs a destination port'],
      [['web', 'client', 'tpc', '80'], 'protocol tpc is unknown'],
      [
        ['default/far', '192.0.2.1', 'tcp', '80'],
        'neither pod default/far nor 192.0.2.1 is on this node: ask on node2',
      ],
      [['web', '10.65.0.1', 'tcp', '80', '--family=6'], 'there is no IPv6 address of one family at both ends'],
    ])('explain %j is answered with a sentence', async (args, sentence) => {
      const { status, stdout, stderr } = await lab.node(0).tortie('explain', ...args);
      expect({ status, stdout }).toEqual({ status: 1, stdout: '' });
      expect(stderr).toMatch(/^tortie explain: [^\n]+\n$/);
      expect(stderr).toContain(sentence);
    });
  });

  it('the user’s page: its example does what it says, and its commands run', async () => {
    const page = readFileSync(fileURLToPath(new URL('../../docs/policy.md', import.meta.url)), 'utf8');
    const [, yaml = ''] = /```yaml\n([^]*?)```/.exec(page) ?? [];
    const commands = [...page.matchAll(/^tortie ([^#\n]+)/gm)].map(([, words = '']) =>
      words.trim().replace('/tmp/diags', join(lab.dir, 'diags')).split(/\s+/),
    );
    const node = lab.node(0);
    await node.addPod('web-1', { namespace: 'shop', labels: { app: 'web', quarantine: 'no' } });
    const db = await node.addPod('db-0', { namespace: 'shop', labels: { app: 'db' }, serves: [5432] });
    const sick = await node.addPod('sick', { namespace: 'shop', labels: { app: 'web', quarantine: 'yes' } });
    await db.peer();
    lab.apply('policy', []);
    writeFileSync(join(lab.datastoreDir, 'page.yaml'), yaml);
    await eventually(
      async () =>
        (await explain(node, 'shop/sick', 'shop/db-0', 'tcp 5432', 4)).verdict === 'deny' &&
        !(await (await sick.peer()).probe(db.ipv4, { port: 5432, timeoutMs: silenceMs })).verdict.startsWith('rea'),
      () => 'the quarantine is not in force',
    );
    // It runs until Ctrl-C, in eBPF mode only: agent-flows.test.ts has it.
    const streaming = commands.findIndex(([name]) => name === 'flows');
    expect(commands.splice(streaming, 1)).toHaveLength(1);
    const answers = await Promise.all(commands.map((words) => node.tortie(...words)));
    expect(answers.map(({ status, stderr }) => ({ status, stderr }))).toEqual(
      commands.map(() => ({ status: 0, stderr: '' })),
    );
    expect(commands.map(([name]) => name)).toEqual(expect.arrayContaining(['policy', 'explain', 'status', 'diags']));
    const said = (name: string) => answers[commands.findIndex(([first]) => first === name)]?.stdout ?? '';
    expect(said('explain')).toMatch(/^ALLOW .*rule KubernetesNetworkPolicy shop\/db-from-web ingress 0/);
    expect(said('policy')).toContain('KubernetesNetworkPolicy shop/db-from-web');
    expect((await node.tortie('explain', 'shop/sick', 'shop/db-0', 'tcp', '5432')).stdout).toMatch(
      /^DENY .*GlobalNetworkPolicy security\.quarantine egress 0/,
    );
    rmSync(join(lab.datastoreDir, 'page.yaml'));
    for (const pod of ['web-1', 'db-0', 'sick']) await node.pods.find(({ name }) => name === pod)?.del();
  });

  describe('policy show', () => {
    /** Packets by rule; both families. */
    const counters = async (pod: string): Promise<Readonly<Record<string, number>>> => {
      const { ingress, egress } = await show(pod);
      const rules = [ingress, egress].flatMap(({ tiers, profiles }) =>
        [...tiers.flatMap(({ policies }) => policies), ...profiles].flatMap((policy) => policy.rules),
      );
      return Object.fromEntries(rules.map(({ id, counter }) => [id, counter?.packets ?? -1]));
    };
    /** How often the kernels of those who ask here have sent something once more, which is counted once more, too. */
    const repeated = async (): Promise<string> => {
      const path = ({ netns }: { readonly netns: string }) => `--net=/run/netns/${netns}`;
      const all = [...lab.nodes.flatMap((node) => node.pods), { netns: lab.fabric }];
      const texts = await Promise.all(all.map((one) => must('nsenter', path(one), 'grep', '^Tcp:', '/proc/net/snmp')));
      return texts.map((text) => text.trim().split('\n').at(-1)?.split(' ')[12]).join();
    };
    const grown = async (pod: string, deed: () => Promise<unknown>): Promise<Readonly<Record<string, number>>> => {
      const [before, repeatedBefore] = [await counters(pod), await repeated()];
      await deed();
      const after = await counters(pod);
      if ((await repeated()) !== repeatedBefore) return grown(pod, deed);
      return Object.fromEntries(
        Object.entries(after).flatMap(([id, packets]) => {
          const growth = packets - (before[id] ?? 0);
          return growth === 0 ? [] : [[id, growth]];
        }),
      );
    };
    const bothFamilies = (
      from: Party,
      to: Party,
      packet: { protocol: 'tcp' | 'udp'; port: number },
      timeoutMs: number,
    ) => Promise.all([to.ipv4, to.ipv6].map((host) => from.peer.probe(host, { ...packet, timeoutMs })));

    /** In both families: the kernel is a moment behind the answers. */
    const inForce = () =>
      eventually(
        async () => {
          const { client, web } = parties;
          const answers = await bothFamilies(client, web, { protocol: 'tcp', port: 7777 }, silenceMs);
          return answers.every(({ verdict }) => verdict === 'nothing');
        },
        () => 'the policies are not in force',
      );

    it('lists tiers, policies of every kind and rules in the order of evaluation', async () => {
      await apply(all);
      const { ingress, egress, notes } = await show('web');
      expect(notes).toEqual([]);
      expect(
        ingress.tiers.map(({ name, endsWith, policies }) => [name, endsWith, policies.map(({ id }) => id)]),
      ).toEqual([
        ['security', 'pass', ['GlobalNetworkPolicy security.guard']],
        ['default', 'deny', ['StagedGlobalNetworkPolicy trial', 'KubernetesNetworkPolicy default/web']],
      ]);
      expect(egress.tiers).toEqual([]);
      expect(ingress.profiles[0]?.id).toBe('kns.default');
      const json = async () =>
        JSON.parse((await lab.node(0).tortie('policy', 'show', 'default/web', '-o', 'json')).stdout) as unknown;
      let shown = await json();
      // A packet in between is counted in one of them.
      await eventually(
        async () => isDeepStrictEqual((shown = await json()), await show('web')),
        async () => expect(shown).toEqual(await show('web')),
      );
      const { stdout, status } = await lab.node(0).tortie('policy', 'show', 'default/web');
      expect(status).toBe(0);
      const order = [
        'INGRESS',
        'tier security  GlobalNetworkPolicy security.guard',
        'deny IPv4 TCP from {2 networks} (2 members) to port 80',
        'pass what no rule matched',
        'StagedGlobalNetworkPolicy trial (staged: counts only)',
        'KubernetesNetworkPolicy default/web',
        'deny what no rule matched',
        'kns.default',
        'deny the rest',
        'EGRESS',
        'kns.default',
      ];
      let at = 0;
      for (const text of order) {
        const found = stdout.indexOf(text, at);
        if (found < 0) throw new Error(`no ${text} after character ${at} of\n${stdout}`);
        at = found;
      }
    });

    it('counts the first packets of flows in both families, also by staged and denying rules, and nothing else', async () => {
      await apply(all);
      const { client, web, outside } = parties;
      await inForce();
      const allowed = await grown('web', () => bothFamilies(client, web, { protocol: 'tcp', port: 8080 }, patienceMs));
      expect(allowed).toEqual({
        'StagedGlobalNetworkPolicy trial ingress 0': 2,
        'KubernetesNetworkPolicy default/web ingress 0.0': 2,
        'Profile kns.default egress 0': 2, // The client's: a rule counts for all of the node's pods.
      });
      const denied = await grown('web', () => bothFamilies(client, web, { protocol: 'udp', port: 7777 }, silenceMs));
      expect(denied).toEqual({
        'GlobalNetworkPolicy security.guard ingress 3': 2,
        'Profile kns.default egress 0': 2,
      });
      // From outside, IPv4 is allowed and IPv6 passed on to a tier that denies at its end.
      const mixed = await grown('web', () => bothFamilies(outside, web, { protocol: 'tcp', port: 7777 }, silenceMs));
      expect(mixed).toEqual({
        'GlobalNetworkPolicy security.guard ingress 2': 1,
        'StagedGlobalNetworkPolicy trial ingress 0': 1,
      });
      const profile = await grown('web', () => bothFamilies(web, outside, { protocol: 'udp', port: 7777 }, patienceMs));
      expect(profile).toEqual({ 'Profile kns.default egress 0': 2 });
    });

    it('counters live on when other policies of the pod come, change and go', async () => {
      await apply(all);
      const { client, web } = parties;
      const rule = 'KubernetesNetworkPolicy default/web ingress 0.0';
      const connect = () => bothFamilies(client, web, { protocol: 'tcp', port: 8080 }, patienceMs);
      await inForce();
      await connect();
      const start = (await counters('web'))[rule] ?? 0;
      expect(start).toBeGreaterThan(0);
      const another = { ...tiered([{ action: 'Pass' }]), metadata: { name: 'security.other' } };
      const sequence = [[...all, another], [tier, tiered([...guard, { action: 'Pass' }]), kubernetes, staged], all];
      for (const [index, objects] of sequence.entries()) {
        await apply(objects);
        await connect();
        expect((await counters('web'))[rule]).toBe(start + 2 * (index + 1));
      }
      expect((await lab.node(0).status()).dataplane.failures).toEqual([]);
    });

    it.each([
      ['nosuch', 'nosuch is no endpoint of this node'],
      ['default/far', 'pod default/far is no endpoint of this node'],
    ])('policy show %s is answered with a sentence', async (pod, sentence) => {
      const { status, stdout, stderr } = await lab.node(0).tortie('policy', 'show', pod);
      expect({ status, stdout }).toEqual({ status: 1, stdout: '' });
      expect(stderr).toContain(sentence);
    });
  });
});

describe('policy in eBPF mode', () => {
  it('is in force, explain and policy show say the same, and a flip of the dataplane changes nothing of it', async () => {
    await using lab = await startAgentLab({ bpfEnabled: true, nodes: 1 });
    const node = lab.node(0);
    const open = await node.addPod('open');
    const [other, closed] = [await node.addPod('other'), await node.addPod('closed', { labels: { app: 'web' } })];
    await Promise.all([other, closed].map((pod) => pod.peer()));
    const explain = async (to: string) => {
      const { stdout } = await node.tortie('explain', 'open', to, 'tcp', '7777', '-o', 'json');
      return JSON.parse(stdout) as Explanation;
    };
    const peer = await open.peer();
    const cases = [
      ['closed', closed, 'deny'],
      ['other', other, 'allow'],
    ] as const;
    const isInForce = async (): Promise<void> => {
      for (const [to, , verdict] of cases) {
        await eventually(
          async () => {
            const answer = await explain(to);
            return answer.verdict === verdict && answer.notes.length === 0;
          },
          () => explain(to),
        );
      }
      for (const [to, { ipv4, ipv6 }, verdict] of cases) {
        expect(await explain(to)).toMatchObject({ verdict, notes: [] });
        for (const address of [ipv4, ipv6]) {
          const { ok } = await peer.connect(address, verdict === 'deny' ? silenceMs : patienceMs);
          expect({ to, address, ok }).toEqual({ to, address, ok: verdict === 'allow' });
        }
      }
    };
    lab.apply('policy', [tier, tiered([{ action: 'Deny' }])]);
    await eventually(
      async () => !(await Promise.all(closed.addresses.map((to) => peer.connect(to, silenceMs)))).some(({ ok }) => ok),
      () => 'the policy is not in force',
    );
    await isInForce();
    const { stdout } = await node.tortie('policy', 'show', 'closed');
    expect(stdout).toContain('security.guard');
    expect(stdout).not.toContain('does not enforce');
    for (const bpfEnabled of [false, true]) {
      lab.setBpfEnabled(bpfEnabled);
      const active = bpfEnabled ? 'ebpf' : 'iptables';
      await node.waitFor((status) => status.dataplane.active === active && status.ready);
      await isInForce();
    }
    lab.apply('policy', []);
    await eventually(
      async () => (await explain('closed')).verdict === 'allow',
      () => explain('closed'),
    );
    expect(await peer.connect(closed.ipv4, patienceMs)).toMatchObject({ ok: true });
  });
});
