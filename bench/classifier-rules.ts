/**
 * The classifier's control side with large policies, on maps that only count. For each way in which rules can differ: time on the main thread until
 * the unit is in force, of a rule more, of a rule less in the middle; writes; the longest that nothing else had a turn.
 * Arguments: how many rules (10,000).
 */
import { setImmediate } from 'node:timers';
import { Classifier } from '#dataplanes/ebpf/classifier/classifier.ts';
import { unitLists } from '#dataplanes/ebpf/classifier/unit-lists.ts';
import type { RuleInfo } from '#dataplanes/policy.ts';
import { ANY_PEER as nobody } from '#dataplanes/shared/test-config.ts';
import { CountingMaps } from './lib/counting-maps.ts';

const count = Number(process.argv[2] ?? 10_000);
const only = process.argv[3];
const net = (index: number) => `10.${(index >> 14) & 255}.${(index >> 6) & 255}.${(index & 63) << 2}/30`;
const rule = (index: number, fields: Partial<RuleInfo>): RuleInfo => ({
  id: `r${index}`,
  action: 'allow',
  source: nobody,
  destination: nobody,
  ...fields,
});
const port = (index: number) => [{ min: index + 1, max: index + 1 }];
const shapes: Record<string, (index: number) => RuleInfo> = {
  'each its own port': (index) => rule(index, { protocol: 6, destination: { ...nobody, ports: port(index) } }),
  'each its own net': (index) => rule(index, { source: { ...nobody, net: net(index) } }),
  'each its own net, one port': (index) =>
    rule(index, { protocol: 6, source: { ...nobody, net: net(index) }, destination: { ...nobody, ports: port(79) } }),
  'each its own net and port': (index) =>
    rule(index, {
      protocol: 6,
      source: { ...nobody, net: net(index) },
      destination: { ...nobody, ports: port(index) },
    }),
  'each its own set': (index) => rule(index, { protocol: 6, source: { ...nobody, sets: [`s${index}`] } }),
  'each its own set, and one that all are in': (index) =>
    rule(index, { protocol: 6, source: { ...nobody, sets: ['all', `s${index}`] } }),
  'each but for its own port': (index) =>
    rule(index, { protocol: 6, destination: { ...nobody, notPorts: port(index) } }),
  'each but for its own net': (index) => rule(index, { source: { ...nobody, notNet: net(index) } }),
  'the one set without another': (index) =>
    rule(index, { protocol: 6, source: { ...nobody, sets: ['all'], notSets: [`s${index}`] } }),
  'nested nets': (index) =>
    rule(index, { source: { ...nobody, net: `10.${index % 250}.${(index / 250) | 0}.0/${16 + (index % 9)}` } }),
  mixed: (index) =>
    rule(index, {
      protocol: index % 3 === 0 ? 17 : 6,
      source: { ...nobody, sets: index % 2 ? [`s${index}`] : [], notSets: index % 5 ? [] : [`s${index + 1}`] },
      destination: {
        ...nobody,
        ports: index % 4 ? port(index) : [],
        notPorts: index % 7 ? [] : port(index + 1),
        ...(index % 6 ? {} : { net: net(index) }),
      },
    }),
};

for (const [shape, make] of Object.entries(shapes)) {
  if (only !== undefined && only !== shape) continue;
  globalThis.gc?.();
  const heapBefore = process.memoryUsage().heapUsed;
  const maps = new CountingMaps();
  const classifier = new Classifier(maps);
  classifier.onUpdate({
    type: 'ipSetUpdate',
    id: 'all',
    setType: 'net',
    members: Array.from({ length: count }, (_, index) => net(index)),
  });
  for (let index = 0; index <= count + 1; index++)
    classifier.onUpdate({ type: 'ipSetUpdate', id: `s${index}`, setType: 'net', members: [net(index)] });
  const rules = Array.from({ length: count + 1 }, (_, index) => make(index));
  const announce = (ingress: readonly RuleInfo[]) =>
    classifier.onUpdate({
      type: 'policyUpdate',
      id: 'p',
      policy: { tier: 'default', staged: false, ingress, egress: [] },
    });
  const measure = async (act: () => void): Promise<string> => {
    let [longest, turn, isOver] = [0, performance.now(), false];
    const watch = () => {
      const now = performance.now();
      longest = Math.max(longest, now - turn);
      turn = now;
      if (!isOver) setImmediate(watch);
    };
    const writes = maps.writes;
    const cpu = process.cpuUsage();
    const start = performance.now();
    setImmediate(watch);
    act();
    await classifier.flush();
    const flush = performance.now() - start;
    await classifier.settle();
    const settle = performance.now() - start - flush;
    const { user, system } = process.cpuUsage(cpu);
    await new Promise((resolve) => setImmediate(resolve));
    isOver = true;
    return `${flush.toFixed(0)}+${settle.toFixed(0)} ms (CPU ${((user + system) / 1000).toFixed(0)}), ${maps.writes - writes} writes, longest ${longest.toFixed(0)} ms`;
  };
  console.log(`${shape}:`);
  console.log(
    '  first',
    await measure(() => {
      announce(rules.slice(0, count));
      classifier.acquire(
        unitLists('endpoint', 'ingress', 4, {
          tiers: [{ name: 'default', defaultAction: 'deny', ingress: ['p'], egress: [] }],
          profiles: [],
        }),
      );
    }),
  );
  globalThis.gc?.();
  console.log(
    `  heap ${((process.memoryUsage().heapUsed - heapBefore) / 2 ** 20).toFixed(0)} MiB`,
    JSON.stringify(classifier.failed.map(({ failure }) => failure)),
  );
  console.log('  one more', await measure(() => announce(rules)));
  console.log('  one less, the first', await measure(() => announce(rules.slice(1))));
  console.log('  ', JSON.stringify(classifier.figures));
}
