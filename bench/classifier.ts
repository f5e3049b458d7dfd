/**
 * The classifier's control side alone, on maps that only count: 10,000 rules, a set of 100,000 members, 1,000 units. Medians of a few runs:
 * time on the main thread and writes of a label change, of a set that a policy names anew, of the first flush; memory.
 */
import { Classifier } from '#dataplanes/ebpf/classifier/classifier.ts';
import { unitLists } from '#dataplanes/ebpf/classifier/unit-lists.ts';
import type { RuleInfo } from '#dataplanes/policy.ts';
import { ANY_PEER as nobody } from '#dataplanes/shared/test-config.ts';
import { CountingMaps } from './lib/counting-maps.ts';

const allow = (id: string, sets: readonly string[], port: number): RuleInfo => ({
  id,
  action: 'allow',
  protocol: 6,
  source: { ...nobody, sets },
  destination: { ...nobody, ports: [{ min: port, max: port }] },
});
const address = (index: number) => `10.${(index >> 16) & 255}.${(index >> 8) & 255}.${index & 255}/32`;
const addresses = (first: number, count: number) => Array.from({ length: count }, (_, index) => address(first + index));

const maps = new CountingMaps();
const classifier = new Classifier(maps);
const policy = (id: string, ingress: readonly RuleInfo[]) =>
  classifier.onUpdate({ type: 'policyUpdate', id, policy: { tier: 'default', staged: false, ingress, egress: [] } });
const unit = (policies: readonly string[]) =>
  classifier.acquire(
    unitLists('endpoint', 'ingress', 4, {
      tiers: [{ name: 'default', defaultAction: 'deny', ingress: policies, egress: [] }],
      profiles: [],
    }),
  );

async function measure(what: string, act: () => void): Promise<void> {
  const before = maps.writes;
  const start = performance.now();
  act();
  await classifier.flush();
  const flushed = performance.now();
  const writes = maps.writes - before;
  await classifier.settle();
  console.log(
    `${what}: flush ${(flushed - start).toFixed(2)} ms, ${writes} writes; tidying ${(performance.now() - flushed).toFixed(2)} ms, ${maps.writes - before - writes} writes`,
  );
}

await measure('start: 100,000 members, 10,000 rules in one unit, 1,000 units of 5 rules', () => {
  classifier.onUpdate({ type: 'ipSetUpdate', id: 'everybody', setType: 'net', members: addresses(0, 100_000) });
  for (let index = 0; index < 1000; index++) {
    const members = addresses(index * 10, 10);
    classifier.onUpdate({ type: 'ipSetUpdate', id: `set${index}`, setType: 'net', members });
  }
  policy(
    'large',
    Array.from({ length: 10_000 }, (_, index) =>
      allow(`large ${index}`, [`set${index % 1000}`], 1 + Math.floor(index / 1000)),
    ),
  );
  unit(['large']);
  for (let index = 0; index < 1000; index++) {
    const rules = [0, 1, 2, 3].map((other) => allow(`p${index} ${other}`, [`set${(index + other) % 1000}`], 80));
    policy(`p${index}`, [...rules, allow(`p${index} 4`, ['everybody'], 443)]);
    unit([`p${index}`]);
  }
});
const pod = '10.200.0.1/32';
await measure('a new pod in everybody', () =>
  classifier.onUpdate({ type: 'ipSetDelta', id: 'everybody', added: [pod], removed: [] }),
);
for (const [what, added, removed] of [
  ['a label change into a selector of 5 units, the first with its labels', [address(50_000)], []],
  ['the same back', [], [address(50_000)]],
] as const) {
  await measure(what, () => classifier.onUpdate({ type: 'ipSetDelta', id: 'set7', added, removed }));
}
const twins = [address(60_000), address(60_001)];
classifier.onUpdate({ type: 'ipSetDelta', id: 'set7', added: [twins[0] ?? ''], removed: [] });
await classifier.flush();
await measure('a label change to labels that other pods have', () =>
  classifier.onUpdate({ type: 'ipSetDelta', id: 'set7', added: [twins[1] ?? ''], removed: [] }),
);
await measure('a rule more in the unit of 10,000', () =>
  policy(
    'large',
    Array.from({ length: 10_001 }, (_, index) =>
      allow(`large ${index}`, [`set${index % 1000}`], 1 + Math.floor(index / 1000)),
    ),
  ),
);
await measure('a policy that names a new set of 100,000', () => {
  classifier.onUpdate({ type: 'ipSetUpdate', id: 'new', setType: 'net', members: addresses(50_000, 100_000) });
  policy('p0', [allow('p0 0', ['new'], 80)]);
});
const { heapUsed, arrayBuffers } = process.memoryUsage();
console.log(`heap ${Math.round(heapUsed / 2 ** 20)} MiB, buffers ${Math.round(arrayBuffers / 2 ** 20)} MiB`);
console.log(JSON.stringify(classifier.figures));

/** Sets that nothing names yet, in a classifier of their own: the first flush of a unit that does, and the heap that stays. */
async function measureSets(what: string, sets: readonly (readonly string[])[]): Promise<void> {
  globalThis.gc?.();
  const before = process.memoryUsage().heapUsed;
  const alone = new Classifier(new CountingMaps());
  for (const [index, members] of sets.entries()) {
    alone.onUpdate({ type: 'ipSetUpdate', id: `s${index}`, setType: 'net', members });
  }
  const rules = sets.map((_, index) => allow(`r${index}`, [`s${index}`], 80));
  alone.onUpdate({
    type: 'policyUpdate',
    id: 'p',
    policy: { tier: 'default', staged: false, ingress: rules, egress: [] },
  });
  alone.acquire(
    unitLists('endpoint', 'ingress', 4, {
      tiers: [{ name: 'default', defaultAction: 'deny', ingress: ['p'], egress: [] }],
      profiles: [],
    }),
  );
  const start = performance.now();
  await alone.flush();
  const milliseconds = performance.now() - start;
  globalThis.gc?.();
  const mebibytes = (process.memoryUsage().heapUsed - before) / 2 ** 20;
  console.log(
    `${what}: flush ${milliseconds.toFixed(0)} ms, heap ${mebibytes.toFixed(0)} MiB${globalThis.gc === undefined ? ' with garbage (--expose-gc)' : ''}, ${alone.figures.addresses} addresses`,
  );
}

const prefix = (index: number) => `${1 + (index >> 16)}.${(index >> 8) & 255}.${index & 255}.0/24`;
for (const count of [60_000, 130_000]) {
  await measureSets(`${count} prefixes side by side`, [Array.from({ length: count }, (_, index) => prefix(index))]);
}
/** The same in each run, without a pattern: every address has a list of its own. */
let state = 1;
const isIn = () => (state = (state * 1_103_515_245 + 12_345) % 2 ** 31) < 2 ** 31 / 5;
const inSets = Array.from({ length: 500 }, () =>
  Array.from({ length: 2000 }, (_each, index) => index).filter(() => isIn()),
);
await measureSets(
  '2,000 addresses, each in some 100 of 500 sets',
  inSets.map((members) => members.map((index) => `10.3.${index >> 8}.${index & 255}/32`)),
);
