/** Somebody changes rules, sets and routes by which policy is enforced: they are put right, and said. */
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { eventually, saysInLog } from '#test/lab/agent-lab.ts';
import { exec } from '#test/lab/exec.ts';
import type { LabNode } from '#test/lab/lab-node.ts';
import { differences, settledSnapshotOf, snapshotOf, type NodeSnapshot } from '#test/lab/node-snapshot.ts';
import { globalPolicy } from '../contract/objects.ts';
import { enforcing, PolicyLab } from './policy-lab.ts';

/** Several networks, so that there is a set of them. */
const policy = globalPolicy('served', {
  selector: "role == 'served'",
  types: ['Ingress'],
  ingress: [
    { action: 'Allow', source: { selector: "role == 'friend'" } },
    { action: 'Allow', source: { nets: ['192.0.2.1/32', '192.0.2.3/32', '192.0.2.128/25'] } },
  ],
});

/** Shell, in the node's namespace; $T is the variant's program, run for IPv4 and IPv6 in turn as $t. */
const deeds = {
  'flushes all our chains': 'for c in $($t-save -t filter | sed -n "s/^:\\(cali-[^ ]*\\).*/\\1/p"); do $t -F $c; done',
  'flushes FORWARD': '$t -F FORWARD',
  'flushes INPUT': '$t -F INPUT',
  'deletes our jump in FORWARD': '$t -D FORWARD 1',
  'deletes a rule within a chain of ours': '$t -D cali-FORWARD 1',
  'puts a rule of its own into a chain of ours': '$t -I cali-FORWARD -j ACCEPT',
  // Again if the agent's comparison comes in between: chains that have rules can't be deleted.
  'flushes the filter table and deletes its chains': 'until $t -F && $t -X; do :; done',
  'flushes every table': 'for x in raw mangle nat filter; do $t -t $x -F; done',
  'flushes all sets': 'ipset flush',
  'flushes the sets of sources':
    'for s in $(ipset -n list | grep "^cali[46]0.*wl-src"); do ipset flush $s || true; done',
  'adds a source to a device':
    'd=$(ip -o link | sed -n "s/^[0-9]*: \\(cali[^@:]*\\).*/\\1/p" | head -1); ipset -exist add cali40wl-src 192.0.2.66,$d',
  'flushes the tables and destroys all sets':
    'for x in raw mangle nat filter; do until $t -t $x -F && $t -t $x -X; do :; done; done; ipset -X || true',
  "deletes the pods' routes":
    'for r in $(ip route | sed -n "s/^\\([0-9.]*\\) dev cali.*/\\1/p"); do ip route del $r; done',
} as const;

/** Sets are the iptables dataplane's; chains have other names in each. */
const ofIptables = ['flushes the sets of sources', 'adds a source to a device'];
const deedsOf = (dataplane: string): [string, string][] =>
  dataplane.startsWith('iptables')
    ? Object.entries(deeds)
    : Object.entries(deeds)
        .filter(([what]) => !ofIptables.includes(what))
        .map(([what, deed]) => [what, deed.replaceAll('cali-', 'tortie-')]);

describe.each(enforcing)('while policy is enforced by $name, somebody', (combination) => {
  let bed: PolicyLab;
  let node: LabNode;
  let before: NodeSnapshot;

  beforeAll(async () => {
    bed = await PolicyLab.start(combination, [policy]);
    node = bed.lab.node(0);
    await eventually(
      async () => (await bed.wrong()).length === 0,
      () => bed.wrong(),
    );
    before = await settledSnapshotOf(node);
  });
  afterAll(() => bed[Symbol.asyncDispose]());

  it.each(deedsOf(combination.name))(
    '%s: it is put right, policy is in force again, established flows live',
    async (_, deed) => {
      const friend = await bed.friend.peer();
      const streams = await Promise.all(
        bed.served.flatMap(({ addresses }) => addresses.map((to) => friend.stream(to, 10))),
      );
      const logged = node.log().length;
      const began = performance.now();
      const [v4, v6] = [combination.iptables, combination.iptables.replace('ip', 'ip6')];
      // Legacy's lock is one for the whole machine.
      const script = `for t in ${v4} ${v6}; do ${deed.replaceAll('$t -', '$t -w -')}; done`;
      const { status, stderr } = await exec('nsenter', [`--net=${node.netnsPath}`, 'sh', '-ec', script]);
      expect({ status, stderr }).toMatchObject({ status: 0 });
      let now: NodeSnapshot = {};
      await eventually(
        async () => differences(before, (now = await snapshotOf(node))).length === 0,
        () => `${differences(before, now).join('\n')}\n${node.logTail()}`,
      );
      process.stdout.write(
        `${combination.name}, put right within ${Math.round(performance.now() - began)} ms: ${deed}\n`,
      );
      await saysInLog(node, /repaired what someone else changed/, logged);
      expect(await bed.wrong()).toEqual([]);
      const failures = (await Promise.all(streams.map((stream) => stream.stop()))).map(({ failure }) => failure);
      expect(failures.filter((failure) => failure !== null)).toEqual([]);
      await node.waitFor(({ ready }) => ready);
    },
  );
});
