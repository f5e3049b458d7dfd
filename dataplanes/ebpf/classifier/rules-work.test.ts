/** How much work many rules are, counted: it grows with their number, and no faster. */
import { expect, test } from '@jest/globals';
import type { RuleInfo } from '../../policy.ts';
import { lists, nobody, policy, rule, start } from './rules-for-tests.ts';

const net = (index: number) => `10.${index >> 6}.${(index & 63) << 2}.0/24`;
const port = (index: number) => [{ min: index + 1, max: index + 1 }];
const to = (fields: Partial<RuleInfo['destination']>) => ({ protocol: 6, destination: { ...nobody, ...fields } });
const from = (fields: Partial<RuleInfo['source']>) => ({ source: { ...nobody, ...fields } });

const shapes: readonly (readonly [string, (index: number) => Partial<RuleInfo>])[] = [
  ['a port', (index) => to({ ports: port(index) })],
  ['all ports but one', (index) => to({ notPorts: port(index) })],
  ['a network', (index) => from({ net: net(index) })],
  ['everything but a network', (index) => from({ notNet: net(index) })],
  ['a set', (index) => ({ ...to({}), ...from({ sets: [`s${index}`] }) })],
  ['a set, of those in a set that all are in', (index) => from({ sets: ['all', `s${index}`] })],
  ['all in a set, without those of another', (index) => from({ sets: ['all'], notSets: [`s${index}`] })],
  ['a network and a port', (index) => ({ ...from({ net: net(index) }), ...to({ ports: port(index) }) })],
  ['a port, with rules between that ask for none', (index) => to(index % 4 === 0 ? {} : { ports: port(index) })],
];

/** Conditions looked at, writes, and entries of the row table, by rule: of a unit that is new, and of one rule more. */
async function workFor(count: number, fields: (index: number) => Partial<RuleInfo>) {
  const { twin, classifier } = start(200_000, { tortie_ports: 65_536 });
  const indexes = Array.from({ length: count + 1 }, (_, index) => index);
  const set = (id: string, members: string[]) =>
    classifier.onUpdate({ type: 'ipSetUpdate', id, setType: 'net', members });
  set('all', indexes.map(net));
  for (const index of indexes) set(`s${index}`, [net(index)]);
  const rules = indexes.map((index) => rule(`p ${index}`, fields(index)));
  const unit = classifier.acquire(lists(['p']));
  const figures = async (ingress: readonly RuleInfo[]) => {
    const before = twin.writes;
    classifier.onUpdate({ type: 'policyUpdate', id: 'p', policy: policy(...ingress) });
    await classifier.flush();
    expect(classifier.failed).toEqual([]);
    const looked = unit.published?.compiled.form.dimensions.reduce((sum, form) => sum + (form?.looked ?? 0), 0) ?? 0;
    await classifier.settle();
    return [looked, twin.writes - before, classifier.figures.rowEntries].map((each) => each / count);
  };
  return [...(await figures(rules.slice(0, -1))), ...(await figures(rules)), ...(await figures(rules.slice(1)))];
}

test.each(shapes)('rules that each ask for %s', async (_, fields) => {
  const [few, many] = [await workFor(700, fields), await workFor(2100, fields)];
  for (const [index, work] of many.entries()) expect(work).toBeLessThanOrEqual(1.2 * (few[index] ?? 0) + 0.1);
});
