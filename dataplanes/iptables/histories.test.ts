import { expect, test } from '@jest/globals';
import fc from 'fast-check';
import { FakeClock } from '#api/fake-clock.ts';
import type { CommandRunner } from '#native/command-runner.ts';
import type { DataplaneUpdate } from '../messages.ts';
import { FakeSets } from '../netfilter/fake-sets.ts';
import { FakeXtables } from '../netfilter/fake-xtables.ts';
import { VariantChoice } from '../netfilter/variant-choice.ts';
import type { HostEndpointInfo, RuleInfo, TierInfo } from '../policy.ts';
import { FakeNetlink } from '../shared/fake-netlink.ts';
import { ALLOW_ALL, ANY_RULE, TEST_CONFIG, testEndpoint } from '../shared/test-config.ts';
import { silentLogger } from '../silent-logger.ts';
import { IptablesDataplane } from './iptables.ts';

/** The kernel of one node: what a dataplane leaves there stays for its successor. */
class Node {
  readonly tools = new FakeXtables();
  readonly sets = new FakeSets();
  readonly netlink = new FakeNetlink();
  /** Rules that were written while a set of theirs was missing. */
  readonly dangling: string[] = [];

  dataplane(): IptablesDataplane {
    const commands: CommandRunner = {
      run: (file, args, options) => {
        for (const [, name = ''] of (options?.input ?? '').matchAll(/--match-set (\S+)/g))
          if (!this.sets.sets.has(name) && !name.endsWith('probe')) this.dangling.push(name);
        return this.tools.run(file, args, options);
      },
    };
    return new IptablesDataplane({
      commands,
      sets: this.sets,
      clock: new FakeClock({ sleepsPass: true }),
      log: silentLogger,
      hasIpv6: () => true,
      host: this.netlink,
      openMonitor: () => this.netlink.monitor(),
      conntrack: { deleteOf: () => Promise.resolve(0) },
      variants: new VariantChoice(commands, silentLogger),
    });
  }

  /** Every chain with its rules in order, every set with its members. */
  state(): Record<string, string> {
    const state: Record<string, string> = {};
    for (const tool of ['iptables-nft', 'ip6tables-nft']) {
      for (const table of ['raw', 'mangle', 'filter']) {
        for (const line of this.tools.dump(tool, table).split('\n')) {
          const chain = `${tool} ${table} ${/^(?::|-A )(\S+)/.exec(line)?.[1] ?? ''}`;
          state[chain] = `${state[chain] ?? ''}${line}\n`;
        }
      }
    }
    for (const [name, { spec, members }] of this.sets.sets)
      state[name] = `${spec.type} ${[...members].sort().join(' ')}`;
    return state;
  }
}

const SETS = ['s:1', 's:2', 's:3'];
const POLICIES = ['P 1', 'P 2', 'P 3'];
const PROFILES = ['kns.default', 'other'];

const member = fc.integer({ min: 1, max: 5 }).map((n) => (n % 2 === 0 ? `fd00:65::${n}/128` : `10.65.0.${n}/32`));
const rule = (id: string): fc.Arbitrary<RuleInfo> =>
  fc
    .record({
      set: fc.constantFrom(...SETS, undefined),
      action: fc.constantFrom<RuleInfo['action']>('allow', 'deny', 'pass', 'log'),
    })
    .map(({ set, action }) => ({
      ...ANY_RULE,
      id,
      action,
      source: { ...ANY_RULE.source, sets: set === undefined ? [] : [set] },
    }));
const rules = (id: string): fc.Arbitrary<RuleInfo[]> =>
  fc.tuple(rule(`${id} 0`), rule(`${id} 1`)).chain((pair) => fc.subarray(pair));
const tiers: fc.Arbitrary<TierInfo[]> = fc
  .record({ ingress: fc.subarray(POLICIES), egress: fc.subarray(POLICIES) })
  .map((lists) => [{ name: 'default', defaultAction: 'deny', ...lists }]);

/** What the datastore might say, one object at a time; undefined: the object is gone. */
interface Wish {
  readonly kind: 'set' | 'policy' | 'profile' | 'pod' | 'host' | 'ranges';
  readonly id: string;
  readonly value: DataplaneUpdate | undefined;
}
const set = fc
  .record({ id: fc.constantFrom(...SETS), members: fc.uniqueArray(member, { maxLength: 4 }) })
  .map(({ id, members }): Wish => ({ kind: 'set', id, value: { type: 'ipSetUpdate', id, setType: 'net', members } }));
const policy = fc.constantFrom(...POLICIES).chain((id) =>
  fc
    .record({
      ingress: rules(`${id} ingress`),
      egress: rules(`${id} egress`),
      staged: fc.boolean(),
      gone: fc.boolean(),
    })
    .map(({ gone, ...rest }): Wish => ({
      kind: 'policy',
      id,
      value: gone ? undefined : { type: 'policyUpdate', id, policy: { tier: 'default', ...rest } },
    })),
);
const profile = fc.constantFrom(...PROFILES).chain((id) =>
  fc
    .record({ ingress: rules(`Profile ${id} ingress`), egress: rules(`Profile ${id} egress`), gone: fc.boolean() })
    .map(({ gone, ...info }): Wish => ({
      kind: 'profile',
      id,
      value: gone ? undefined : { type: 'profileUpdate', id, profile: info },
    })),
);
const pod = fc
  .record({ n: fc.integer({ min: 1, max: 3 }), tiers, profiles: fc.subarray(PROFILES), gone: fc.boolean() })
  .map(({ n, gone, ...lists }): Wish => ({
    kind: 'pod',
    id: `pod-${n}`,
    value: gone ? undefined : { type: 'workloadEndpointUpdate', id: `pod-${n}`, endpoint: testEndpoint(n, lists) },
  }));
const host = fc
  .record({
    device: fc.constantFrom('eth0', 'eth1', '*'),
    tiers,
    forwardTiers: tiers,
    preDnatTiers: tiers,
    untrackedTiers: tiers,
    gone: fc.boolean(),
  })
  .map(({ device, gone, ...lists }): Wish => {
    const endpoint: HostEndpointInfo = { ifaceName: device, expectedIps: [], profiles: ['kns.default'], ...lists };
    return { kind: 'host', id: device, value: gone ? undefined : { type: 'hostEndpointUpdate', id: device, endpoint } };
  });
const ranges = fc
  .subarray(['10.96.0.0/12', 'fd00:96::/112'])
  .map((cidrs): Wish => ({ kind: 'ranges', id: '', value: { type: 'serviceRangesUpdate', cidrs } }));

type Step = { readonly do: 'wish'; readonly wish: Wish } | { readonly do: 'apply' | 'restart' | 'fail' | 'flush' };
const step: fc.Arbitrary<Step> = fc.oneof(
  {
    arbitrary: fc.oneof(set, policy, profile, pod, host, ranges).map((wish): Step => ({ do: 'wish', wish })),
    weight: 8,
  },
  { arbitrary: fc.constantFrom<Step>({ do: 'apply' }), weight: 4 },
  { arbitrary: fc.constantFrom<Step>({ do: 'restart' }, { do: 'fail' }, { do: 'flush' }), weight: 1 },
);

const GONE = {
  set: 'ipSetRemove',
  policy: 'policyRemove',
  profile: 'profileRemove',
  pod: 'workloadEndpointRemove',
  host: 'hostEndpointRemove',
  ranges: 'hostRemove',
} as const;
const ORDER = ['set', 'policy', 'profile', 'ranges', 'host', 'pod'] as const;

/** Everything that is wished, in the order in which calc says it. */
function tellAll(dataplane: IptablesDataplane, wishes: ReadonlyMap<string, Wish>): void {
  dataplane.onUpdate({ type: 'configUpdate', config: TEST_CONFIG });
  for (const kind of ORDER)
    for (const wish of wishes.values()) if (wish.kind === kind && wish.value) dataplane.onUpdate(wish.value);
  dataplane.onUpdate({ type: 'inSync' });
}

test('whatever is said, in whatever cycles, with restarts, failures and interference: the kernel ends as if it had been said at once', async () => {
  const noSets = SETS.map((id): Wish => ({
    kind: 'set',
    id,
    value: { type: 'ipSetUpdate', id, setType: 'net', members: [] },
  }));
  const first: Wish[] = [...noSets, { kind: 'profile', id: 'kns.default', value: ALLOW_ALL }];
  await fc.assert(
    fc.asyncProperty(fc.array(step, { maxLength: 40 }), async (steps) => {
      const wishes = new Map(first.map((wish) => [`${wish.kind} ${wish.id}`, wish]));
      const node = new Node();
      let dataplane = node.dataplane();
      tellAll(dataplane, wishes);
      await dataplane.apply();
      await dataplane.activate();
      for (const now of steps) {
        if (now.do === 'wish') {
          const { kind, id, value } = now.wish;
          const was = wishes.get(`${kind} ${id}`);
          wishes.set(`${kind} ${id}`, now.wish);
          if (value !== undefined) dataplane.onUpdate(value);
          else if (was?.value !== undefined) dataplane.onUpdate({ type: GONE[kind], id } as DataplaneUpdate);
        } else if (now.do === 'restart') {
          dataplane = node.dataplane();
          tellAll(dataplane, wishes);
          await dataplane.apply();
          await dataplane.activate();
        } else if (now.do === 'fail') {
          node.tools.failNextRestores = 3;
        } else if (now.do === 'flush') {
          for (const tool of ['iptables-nft', 'ip6tables-nft']) node.tools.tables(tool).delete('filter');
          for (const { members } of node.sets.sets.values()) members.clear();
          dataplane.requestResync();
        } else {
          await dataplane.apply();
        }
      }
      node.tools.failNextRestores = 0;
      // A unit without pods goes when policies change.
      const last: DataplaneUpdate = {
        type: 'policyUpdate',
        id: 'P last',
        policy: { tier: 'default', staged: false, ingress: [], egress: [] },
      };
      dataplane.onUpdate(last);
      expect((await dataplane.apply()).failed).toEqual([]);

      const fresh = new Node();
      const other = fresh.dataplane();
      wishes.set('policy P last', { kind: 'policy', id: 'P last', value: last });
      tellAll(other, wishes);
      expect((await other.apply()).failed).toEqual([]);
      await other.activate();
      expect(node.state()).toEqual(fresh.state());
      expect(node.dangling).toEqual([]);
      const restores = node.tools.restores;
      dataplane.requestResync();
      expect(await dataplane.apply()).toMatchObject({ failed: [], repaired: [] });
      expect(node.tools.restores).toBe(restores);
    }),
    { numRuns: 150, interruptAfterTimeLimit: 30_000 },
  );
});
