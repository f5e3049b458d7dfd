/** Somebody changes what the agent has programmed: it is put right, and said. */
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { dataplanes, eventually, saysInLog, startAgentLab } from '#test/lab/agent-lab.ts';
import { exec } from '#test/lab/exec.ts';
import type { Lab } from '#test/lab/lab.ts';
import type { LabNode } from '#test/lab/lab-node.ts';
import type { LabPod } from '#test/lab/lab-pod.ts';
import { differences, settledSnapshotOf, snapshotOf, type NodeSnapshot } from '#test/lab/node-snapshot.ts';

/** One thing that somebody does to a node. */
interface Deed {
  readonly deed: string;
  /** Shell, in the node's namespace; $POD4, $POD6, $DEV and $BPFFS are the pod's and the node's. */
  readonly script: string;
  /** What the agent says then. */
  readonly says: RegExp;
}

const repaired = /repaired what someone else changed/;

/** Seen at once, by the kernel's notices: the comparison by interval is set to never. */
const noticed: readonly Deed[] = [
  { deed: "deletes a pod's IPv4 route", script: 'ip route del $POD4', says: /repaired[^"]*\$POD4/ },
  { deed: "deletes a pod's IPv6 route", script: 'ip -6 route del $POD6', says: /repaired[^"]*\$POD6/ },
  {
    deed: "deletes a pod's neighbours",
    script: 'ip neigh del $POD4 dev $DEV; ip -6 neigh del $POD6 dev $DEV',
    says: /repaired[^"]*neighbour \$POD/,
  },
  {
    deed: "gives a pod's neighbour another MAC",
    script: 'ip neigh replace $POD4 dev $DEV lladdr 02:00:00:00:00:01 nud permanent',
    says: /repaired[^"]*neighbour \$POD4/,
  },
  {
    deed: "deletes the routes to other nodes' blocks",
    script: 'ip route flush proto 80; ip -6 route flush proto 80',
    says: /repaired[^"]*route/,
  },
  {
    deed: "sets a pod's device down and up",
    script: 'ip link set $DEV down; sleep 0.2; ip link set $DEV up',
    says: /repaired[^"]*\$POD4/,
  },
];

/** Seen at the next comparison: the interval is a second. */
const compared: readonly Deed[] = [
  {
    deed: 'switches forwarding off',
    script: 'sysctl -qw net.ipv4.ip_forward=0 net.ipv6.conf.all.forwarding=0',
    says: /repaired[^"]*sysctl/,
  },
  {
    deed: "switches a device's proxy_arp off",
    script: 'sysctl -qw net.ipv4.conf.$DEV.proxy_arp=0',
    says: /repaired[^"]*sysctl[^"]*proxy_arp/,
  },
  { deed: 'flushes the nat table', script: 'iptables -t nat -F; ip6tables -t nat -F', says: repaired },
  {
    deed: 'flushes all tables and deletes their chains',
    script:
      // Again if the agent's comparison comes in between: chains that have rules can't be deleted.
      'for t in filter nat raw; do for c in iptables ip6tables; do until $c -t $t -F && $c -t $t -X 2>/dev/null; do :; done; done; done',
    says: repaired,
  },
  { deed: 'flushes the whole ruleset', script: 'nft flush ruleset', says: repaired },
  { deed: "flushes the pool's ipset", script: 'ipset flush cali40masq-ipam-pools', says: repaired },
  {
    deed: 'deletes rules and ipsets',
    script: 'until nft flush ruleset && ipset destroy 2>/dev/null; do :; done',
    says: repaired,
  },
];

const own: Readonly<
  Record<'iptables' | 'ebpf', { readonly noticed: readonly Deed[]; readonly compared: readonly Deed[] }>
> = {
  iptables: {
    noticed: [],
    compared: [
      { deed: 'deletes the hook in raw', script: 'iptables -t raw -D PREROUTING 1', says: repaired },
      {
        deed: 'flushes the set of sources',
        script: 'ipset flush cali40wl-src; ipset flush cali60wl-src',
        says: repaired,
      },
      { deed: 'adds to the set of sources', script: 'ipset add cali40wl-src 192.0.2.66,$DEV', says: repaired },
    ],
  },
  ebpf: {
    noticed: [
      {
        // (One of them: by the other the agent knows that it made the qdisc, which is named otherwise if it can't know.)
        deed: 'deletes the filter of what a device brings',
        script: 'tc filter del dev $DEV ingress',
        says: /repaired[^"]*BPF filters of \$DEV/,
      },
      {
        deed: 'deletes the filter of what a device gets',
        script: 'tc filter del dev $DEV egress',
        says: /repaired[^"]*BPF filters of \$DEV/,
      },
      {
        deed: "deletes a device's clsact",
        script: 'tc qdisc del dev $DEV clsact',
        says: /repaired[^"]*BPF filters of \$DEV/,
      },
    ],
    compared: [
      {
        deed: "deletes a device's map element",
        script:
          'm=$BPFFS/v2/tortie_devices; bpftool -j map dump pinned $m | grep -o \'"key":\\[[^]]*\\]\' | head -1 | tr -d \'",[]\' | sed s/key:// | sed "s/0x/ 0x/g" | xargs bpftool map delete pinned $m key',
        says: /repaired[^"]*BPF map entries/,
      },
    ],
  },
};

describe.each(dataplanes)('while the agent runs in $dataplane mode, somebody', ({ bpfEnabled, dataplane }) => {
  let lab: Lab;
  let node: LabNode;
  let pod: LabPod;
  let far: LabPod;
  let device: string;
  let before: NodeSnapshot;
  const never = { iptablesRefreshInterval: '0s', ipsetsRefreshInterval: '0s', routeRefreshInterval: '0s' };
  const everySecond = { iptablesRefreshInterval: '1s', ipsetsRefreshInterval: '1s', routeRefreshInterval: '1s' };

  beforeAll(async () => {
    lab = await startAgentLab({ bpfEnabled, felix: never });
    node = lab.node(0);
    pod = await node.addPod('pod');
    far = await lab.node(1).addPod('far');
    await Promise.all([pod.peer(), far.peer()]);
    device = (await node.endpoints())[0]?.device ?? '';
    await works();
    before = await settledSnapshotOf(node);
  });
  afterAll(() => lab[Symbol.asyncDispose]());

  const works = async () => {
    for (const [from, to] of [
      [pod, far],
      [far, pod],
    ] as const) {
      for (const address of to.addresses) {
        expect({ to: address, ...(await (await from.peer()).connect(address)) }).toMatchObject({
          to: address,
          ok: true,
        });
      }
    }
  };
  const isPutRight = async ({ script, says }: Deed) => {
    const logged = node.log().length;
    const values: Readonly<Record<string, string>> = { POD4: pod.ipv4, POD6: pod.ipv6, DEV: device, BPFFS: node.bpffs };
    const { status, stderr } = await exec('nsenter', [`--net=${node.netnsPath}`, 'sh', '-ec', script], { env: values });
    expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
    const began = performance.now();
    let now: NodeSnapshot = {};
    await eventually(
      async () => {
        now = await snapshotOf(node);
        return differences(before, now).length === 0;
      },
      () => `${differences(before, now).join('\n')}\n${node.logTail()}`,
    );
    const pattern = says.source.replaceAll(/\\\$(POD4|POD6|POD|DEV)/g, (_, name: string) =>
      (values[name] ?? '').replaceAll('.', '\\.'),
    );
    await saysInLog(node, new RegExp(pattern), logged);
    process.stdout.write(
      `${dataplane}, put right within ${Math.round(performance.now() - began)} ms: ${script.slice(0, 40)}\n`,
    );
    await works();
    await node.waitFor(({ ready }) => ready);
  };

  it.each([...noticed, ...own[dataplane].noticed])('$deed: it is put right at once', isPutRight);

  describe('with a short refresh interval,', () => {
    beforeAll(() => lab.configure({ ...everySecond, bpfEnabled }));
    it.each([...compared, ...own[dataplane].compared])('$deed: it is put right at the next comparison', isPutRight);
  });

  it("sets a pod's device down: status names the pod until it is up again", async () => {
    await node.exec('ip', 'link', 'set', device, 'down');
    await node.waitFor(
      ({ ready, reasons }) => !ready && reasons.some((reason) => reason.includes('k8s/default/pod/eth0')),
    );
    await node.exec('ip', 'link', 'set', device, 'up');
    await node.waitFor(({ ready }) => ready);
    await works();
  });

  it("deletes a pod's device: status names the pod, and DEL still works", async () => {
    const doomed = await node.addPod('doomed');
    const [endpoint] = (await node.endpoints()).filter(({ pod: name }) => name === 'doomed');
    await node.exec('ip', 'link', 'del', endpoint?.device ?? '');
    await node.waitFor(({ ready, reasons }) => !ready && reasons.some((reason) => reason.includes('doomed')));
    await doomed.del();
    await node.waitFor(({ ready }) => ready);
    await doomed.destroy();
  });
});
