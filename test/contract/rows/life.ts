/** The agent's and the rules' life: restarts, others' interference, readiness, first packets. */
import { eventually } from '#test/lab/agent-lab.ts';
import { exec, must } from '#test/lab/exec.ts';
import { snapshotOf } from '#test/lab/node-snapshot.ts';
import type { Bed } from '../bed.ts';
import { globalPolicy, kubernetesPolicy } from '../objects.ts';
import { lacking, policyRow, provedElsewhere, type Action, type Expectation, type Row } from '../row.ts';

const onlyClient = globalPolicy('only-client', {
  selector: "app == 'web'",
  types: ['Ingress'],
  ingress: [{ action: 'Allow', source: { selector: "color == 'azure'" } }],
});
const onlyFar = globalPolicy('only-client', {
  selector: "app == 'web'",
  types: ['Ingress'],
  ingress: [{ action: 'Allow', source: { selector: "color == 'azalea'" } }],
});
const clientOnly = { reaches: ['client > web,web2 tcp,udp,icmp'], nothing: ['far,blue > web,web2 tcp,udp,icmp'] };
const farOnly = { reaches: ['far > web,web2 tcp,udp,icmp'], nothing: ['client,blue > web,web2 tcp,udp,icmp'] };

const flows = { near: 'runs', away: 'runs', 'near udp': 'runs', 'away udp': 'runs' } as const;
const openFlows = [
  { flow: 'near', line: 'client > web' },
  { flow: 'away', line: 'client > web2' },
  { flow: 'near udp', line: 'client > web udp' },
  { flow: 'away udp', line: 'client > web2 udp' },
] as const;

/** What the node answers on one of its ports: a status code, 0 when nobody listens, and the text. */
async function httpGet(
  bed: Bed,
  node: string,
  url: string,
): Promise<{ readonly status: number; readonly text: string }> {
  const script = `
    const answer = await fetch(${JSON.stringify(url)}).catch(() => undefined);
    process.stdout.write(JSON.stringify({ status: answer?.status ?? 0, text: (await answer?.text()) ?? '' }));`;
  const program = [process.execPath, '--input-type=module', '-e', script];
  const { stdout } = await exec('nsenter', [`--net=${bed.node(node).netnsPath}`, ...program]);
  return JSON.parse(stdout) as { status: number; text: string };
}

/** The status code of a path on the node's health port; 0: nobody listens. */
const healthOf = async (bed: Bed, node: string, path: string): Promise<number> =>
  (await httpGet(bed, node, `http://localhost:9099/${path}`)).status;

/** What node1's kernel holds, without what its agent does in its own directories. */
async function kernelOf(bed: Bed): Promise<string> {
  const { 'run dir': _, 'state dir': __, ...kernel } = await snapshotOf(bed.node('node1'));
  return JSON.stringify(kernel, undefined, 1);
}

/** A thousand rules that nobody's packets match. */
const manyRules = (part: number) =>
  Array.from({ length: 1_000 }, (_, i) => ({
    action: 'Deny',
    protocol: 'TCP',
    destination: { ports: [20_000 + ((part * 1_000 + i) % 40_000)] },
  }));
const allowPort = (port: number) => ({ action: 'Allow', protocol: 'TCP', destination: { ports: [port] } });

/** A pod's namespace behind a device that somebody has made by hand, with the address of a stranger. */
const makeGhost: Action = {
  act: 'somebody makes a device with a name of ours',
  run: async (bed) => {
    const node = bed.node('node1');
    const ghost = await bed.createPod('node1', 'ghost');
    const { stranger: v4 = '' } = bed.addresses('IPv4');
    const { stranger: v6 = '' } = bed.addresses('IPv6');
    const inPod = (...args: string[]) => must('ip', '-n', ghost.netns, ...args);
    const device = 'cali0123456789a';
    await must('ip', '-n', node.netns, 'link', 'add', device, 'type', 'veth', 'peer', 'eth0', 'netns', ghost.netns);
    bed.onRowEnd(async () => exec('ip', ['-n', node.netns, 'link', 'del', device]));
    await node.exec('sysctl', '-qw', `net.ipv4.conf.${device}.proxy_arp=1`, `net.ipv6.conf.${device}.accept_dad=0`);
    await must('ip', '-n', node.netns, 'link', 'set', device, 'address', 'ee:ee:ee:ee:ee:ee', 'up');
    await must('ip', '-n', node.netns, 'addr', 'add', 'fe80::ecee:eeff:feee:eeee/64', 'dev', device, 'nodad');
    await inPod('link', 'set', 'eth0', 'up');
    await inPod('addr', 'add', `${v4}/32`, 'dev', 'eth0');
    await inPod('addr', 'add', `${v6}/128`, 'dev', 'eth0', 'nodad');
    await inPod('route', 'add', '169.254.1.1', 'dev', 'eth0');
    await inPod('route', 'add', 'default', 'via', '169.254.1.1');
    await inPod('-6', 'route', 'add', 'default', 'via', 'fe80::ecee:eeff:feee:eeee', 'dev', 'eth0');
  },
};
const ghostIsShut: Expectation = { nothing: ['ghost@stranger > client,far,node1 tcp,udp'] };

export const life: readonly Row[] = [
  {
    name: 'what somebody takes out of the way of the packets by hand is put back, and forged packets are dropped again',
    source: ['core 37', 'ebpf 6'],
    phases: [
      {
        do: [
          { address: 'client', of: 'stranger' },
          {
            sabotage: 'node1',
            until: {
              reaches: ['client > web,far tcp,udp', 'far > client,web tcp,udp'],
              nothing: ['client@stranger > web,far tcp,udp'],
            },
          },
        ],
      },
    ],
  },
  policyRow({
    name: 'policy is in force again after somebody has taken it out of the kernel',
    source: ['core 37'],
    given: [onlyClient],
    phases: [{ expect: clientOnly }, { do: [{ sabotage: 'node1', until: clientOnly }] }],
  }),
  {
    name: "pods' routes that somebody deletes come back",
    source: ['core 37'],
    phases: [
      {
        do: [
          {
            shell: 'ip route del $WEB4; ip -6 route del $WEB6; ip route flush proto 80; ip -6 route flush proto 80',
            on: 'node1',
          },
        ],
        expect: { reaches: ['client,far > web tcp,udp', 'client,web > far tcp,udp'] },
      },
    ],
  },
  {
    name: 'the agent is killed and started: established flows run on, and the kernel holds what it held',
    source: ['core 38'],
    phases: [
      { do: openFlows, expect: { flows, reaches: ['client,far > web tcp,udp'] } },
      { do: [{ kill: 'node1' }], expect: { flows, reaches: ['client,far > web tcp,udp', 'client > far'] } },
      {
        do: [
          {
            act: 'the agent starts, and changes nothing',
            run: async (bed) => {
              const before = await kernelOf(bed);
              await bed.node('node1').startAgent();
              const after = await kernelOf(bed);
              if (after !== before) throw new Error(`the kernel held\n${before}\nand holds\n${after}`);
            },
          },
        ],
        expect: { flows, reaches: ['client,far > web tcp,udp'] },
      },
    ],
  },
  policyRow({
    name: 'policy stays in force while the agent is dead, and what changed meanwhile is in force when it is back',
    source: ['core 38', 'design 10'],
    given: [onlyClient],
    phases: [
      { do: openFlows, expect: { ...clientOnly, flows } },
      { do: [{ kill: 'node1' }, { kill: 'node2' }], expect: { ...clientOnly, flows } },
      { do: [{ apply: [onlyFar] }, { start: 'node1' }, { start: 'node2' }], expect: { ...farOnly, flows } },
    ],
  }),
  policyRow({
    name: 'another variant of the same tools takes over: connections stay, and nothing of the old one is left',
    source: ['core 39'],
    needs: ['otherVariant'],
    given: [onlyClient],
    phases: [
      { do: openFlows, expect: { ...clientOnly, flows } },
      {
        do: [{ kill: 'node1' }, { start: 'node1', variant: 'other' }],
        expect: {
          ...clientOnly,
          flows,
          also: {
            'the old tables': async (bed, family) => {
              const tool = bed.combination.iptables;
              const program = `${family === 'IPv4' ? tool : tool.replace('ip', 'ip6')}-save`;
              const ours = (await bed.node('node1').exec(program)).split('\n').filter((line) => line.includes('cali'));
              return ours.length === 0 ? undefined : ours.join('\n');
            },
          },
        },
      },
    ],
  }),
  {
    name: 'the node changes to another dataplane and back: pods talk all the time, and nothing of the first is left meanwhile',
    source: ['ebpf 14'],
    needs: ['otherDataplane'],
    phases: [
      {
        do: [
          { flow: 'tcp', line: 'client > far' },
          {
            act: 'the other dataplane is chosen',
            run: async (bed) => {
              bed.configure(bed.combination.otherDataplane);
              bed.onRowEnd(async () => {
                bed.configure();
                const { kind } = bed.combination;
                for (const node of bed.lab.nodes) await node.waitFor(({ dataplane }) => dataplane.active === kind);
              });
              const { kind } = bed.combination;
              for (const node of bed.lab.nodes) {
                await node.waitFor(({ ready, dataplane }) => ready && dataplane.active !== kind);
              }
            },
          },
        ],
        expect: { reaches: ['client,far > web,web2 tcp,udp', 'client > outside as node1'], flows: { tcp: 'runs' } },
      },
    ],
  },
  policyRow({
    name: 'when ADD returns, policy holds: the first packet that is allowed passes, the first that is denied does not',
    source: ['core 40', 'ebpf 1'],
    given: [onlyClient],
    phases: [
      {
        do: [
          {
            act: 'packets right after ADD',
            run: async (bed) => {
              const late = await bed.addPod('node1', 'late', { labels: { app: 'web' } });
              const [client, far] = await Promise.all([bed.peer('client'), bed.peer('far')]);
              const answers = await Promise.all(
                late.addresses.map(async (address) => {
                  const denied = await far.probe(address, { timeoutMs: 200 });
                  const allowed = await client.probe(address, { timeoutMs: 2_000 });
                  return `${denied.verdict} ${allowed.verdict}`;
                }),
              );
              if (answers.some((answer) => answer !== 'nothing reaches')) throw new Error(answers.join('; '));
            },
          },
        ],
        expect: { reaches: ['client > late tcp,udp,icmp'], nothing: ['far,blue > late tcp,udp,icmp'] },
      },
    ],
  }),
  {
    name: 'a device that no ADD has announced gets nothing through, from its first packet on',
    source: ['ebpf 1'],
    needs: ['closesUnknownDevices'],
    phases: [{ do: [makeGhost], expect: ghostIsShut }],
  },
  {
    name: 'a device that no ADD has announced gets nothing through once an agent has started',
    source: ['ebpf 1'],
    phases: [{ do: [makeGhost, { kill: 'node1' }, { start: 'node1' }], expect: ghostIsShut }],
  },
  policyRow({
    name: 'twelve thousand rules for one pod: the first and the last one count, and so does what comes after their deletion',
    source: ['ebpf 5'],
    phases: [
      {
        do: [
          {
            apply: Array.from({ length: 12 }, (_, part) =>
              globalPolicy(`many-${String(part).padStart(2, '0')}`, {
                selector: "color == 'green'",
                order: part,
                types: ['Ingress'],
                ingress: [
                  ...(part === 0 ? [allowPort(11)] : []),
                  ...manyRules(part),
                  ...(part === 11 ? [allowPort(22)] : []),
                ],
              }),
            ),
          },
        ],
        expect: {
          refused: ['client,far > web tcp 11,22'],
          nothing: ['client,far > web tcp 33,7777'],
          reaches: ['client > web2,far'],
        },
      },
      {
        do: [{ remove: Array.from({ length: 12 }, (_, part) => `many-${String(part).padStart(2, '0')}`) }],
        expect: { reaches: ['client,far > web tcp,udp'] },
      },
    ],
  }),
  policyRow({
    name: 'a pod that goes and one that gets its address: nothing of the old one is open to the new one',
    source: ['design 10'],
    given: [kubernetesPolicy('shut', { podSelector: { matchLabels: { shut: 'yes' } }, policyTypes: ['Ingress'] })],
    phases: [
      {
        do: [
          {
            act: 'an open pod with a flow is followed by a closed one',
            run: async (bed) => {
              const wish = { 'cni.projectcalico.org/ipAddrs': '["10.65.202.2","fd65::ca:2"]' };
              const open = await bed.addPod('node1', 'open', { annotations: wish });
              const client = await bed.peer('client');
              const streams = await Promise.all(
                open.addresses.map((host) => client.stream(host, 20, { protocol: 'udp' })),
              );
              await eventually(
                async () =>
                  (await Promise.all(streams.map((stream) => stream.progress()))).every(({ answered }) => answered > 3),
                () => 'the open pod does not answer',
              );
              await open.del();
              await open.loseNamespace();
              const shut = await bed.createPod('node1', 'shut', { annotations: wish, labels: { shut: 'yes' } });
              await shut.add();
              await new Promise((resolve) => setTimeout(resolve, 500));
              const heard = await (await shut.peer()).heard();
              for (const stream of streams) await stream.stop();
              if (Object.keys(heard).length > 0) throw new Error(`the closed pod heard ${JSON.stringify(heard)}`);
            },
          },
        ],
        expect: { nothing: ['client,far > shut tcp,udp'] },
      },
    ],
  }),
  {
    name: 'readiness is 503 until all is programmed and 200 then, and metrics are served',
    source: ['core 40'],
    phases: [
      { expect: { also: { readiness: async (bed) => described(await healthOf(bed, 'node1', 'readiness')) } } },
      {
        do: [
          { kill: 'node1' },
          {
            act: 'the agent starts',
            run: async (bed) => {
              const codes = new Set<number>();
              await bed.node('node1').startAgent({ wait: false });
              await eventually(
                async () => {
                  const code = await healthOf(bed, 'node1', 'readiness');
                  codes.add(code);
                  return code === 200;
                },
                () => `readiness said ${[...codes].join()}`,
              );
              const { ready } = await bed.node('node1').status();
              if (!ready || [...codes].some((code) => ![0, 200, 503].includes(code)))
                throw new Error([...codes].join());
            },
          },
        ],
        expect: {
          also: {
            liveness: async (bed) => described(await healthOf(bed, 'node1', 'liveness')),
            metrics: async (bed) => {
              const { text } = await httpGet(bed, 'node1', 'http://localhost:9091/metrics');
              const count = /^felix_active_local_endpoints(?:\{.*\})? (\d+)/m.exec(text)?.[1];
              const endpoints = (await bed.node('node1').endpoints()).length;
              return Number(count) === endpoints
                ? undefined
                : `felix_active_local_endpoints ${count}, not ${endpoints}`;
            },
          },
        },
      },
    ],
  },
  provedElsewhere(
    'devices that do not match the pattern stay alone, and a changed pattern is followed',
    ['ebpf 10'],
    'test/kernel/ebpf-net-uplinks.test.ts',
    'a pattern says them instead',
  ),
  provedElsewhere(
    'of devices of which one has the others, such as bonds, the one by which the route leaves has programs',
    ['ebpf 10'],
    'test/kernel/ebpf-net-uplinks.test.ts',
    'of a bridge and its ports it is the bridge, by which the route leaves',
  ),
  provedElsewhere(
    'IPv4 only: what is IPv6 from a pod, or to it, is dropped',
    ['ebpf 11'],
    'test/kernel/bpf-flow-link.test.ts',
    'a node without IPv6',
  ),
  provedElsewhere(
    'IPv4 only: what is IPv6 on the host is untouched',
    ['ebpf 11'],
    'test/kernel/bpf-host-frames.test.ts',
    'a node without IPv6 has no say in it',
  ),
  lacking(
    'unprivileged BPF is switched off',
    ['ebpf 12'],
    "a node whose sysctl it could be: it is all of the machine's, and bpfDisableUnprivileged is not in this version",
  ),
  provedElsewhere(
    'a mark mask that is too small is refused with a clear message',
    ['ebpf 13'],
    'test/kernel/ebpf-stack.test.ts',
    'that can not be made, because the mask has too few bits, are a failure that says so',
  ),
  lacking(
    'a table of flows that is nearly full grows',
    ['ebpf 40'],
    'tables that grow: their sizes are settings, and what is full is said',
  ),
  provedElsewhere(
    "other sizes of tables, and flows of another layout's, end no connection: sizes",
    ['ebpf 40'],
    'test/kernel/ebpf-dataplane.test.ts',
    'takes a map of another size into use with what it held, under a running flow',
  ),
  provedElsewhere(
    "other sizes of tables, and flows of another layout's, end no connection: layouts",
    ['ebpf 40'],
    'test/kernel/ebpf-layout.test.ts',
    'an agent of ours takes them over: they go on where nothing new would be allowed',
  ),
  provedElsewhere(
    'a node without its Node object is alive and not ready',
    ['ebpf 40'],
    'test/kernel/agent-input.test.ts',
    'is not ready without its Node, and ready with it: health, status and STATUS say the same',
  ),
  provedElsewhere(
    'running agents change their dataplane and back, and connections go on',
    ['ebpf 39', 'cilium 38'],
    'test/kernel/agent-switch.test.ts',
    'flips running agents ${flips} times: no connection ends, no forged packet passes, new pods work',
  ),
  provedElsewhere(
    'after the clean-up devices, filters, maps, pins, routes, rules and sysctls are as before the install',
    ['cilium 39'],
    'test/kernel/agent-cli.test.ts',
    'refuses while the agent runs or pods are wired; forced, it leaves the node as it was before',
  ),
  provedElsewhere(
    "others' filters, tcx programs and XDP programs run on, on uplinks and on pods' devices, and stay when ours go",
    ['cilium 40'],
    'test/kernel/agent-others.test.ts',
    'run on after cleanup in eBPF mode, of which no program, map, link, pin, qdisc or rule is left',
  ),
];

const described = (code: number): string | undefined => (code === 200 ? undefined : `status ${code}`);
