import { expect, test } from '@jest/globals';
import { silentLogger } from '../silent-logger.ts';
import { FakeXtables } from './fake-xtables.ts';
import { VariantChoice } from './variant-choice.ts';

const ours = '*filter\n:cali-FORWARD - [0:0]\nCOMMIT\n';
const both = [4, 6] as const;

function choiceOn(nft: string, legacy: string): { choice: VariantChoice; fake: FakeXtables } {
  const fake = new FakeXtables();
  fake.write('ip6tables-nft', nft);
  fake.write('ip6tables-legacy', legacy);
  return { choice: new VariantChoice(fake, silentLogger), fake };
}

test('a setting stands without a look at the host', async () => {
  const { choice, fake } = choiceOn('', '');
  expect(await choice.choose(both, 'legacy')).toBe('legacy');
  expect(fake.runs).toEqual([]);
});

test('the host is looked at once, what was found stays', async () => {
  const { choice, fake } = choiceOn('', '');
  expect(await Promise.all([choice.choose(both, 'auto'), choice.choose(both, 'auto')])).toEqual(['nft', 'nft']);
  fake.write('iptables-legacy', '*filter\n-A FORWARD -j ACCEPT\nCOMMIT\n');
  expect(await choice.choose(both, 'auto')).toBe('nft');
  expect(fake.runs).toHaveLength(4);
});

test.each([
  ['chains of ours', ours, true],
  ["chains of others'", ours.replace('cali-', 'KUBE-'), false],
  ['nothing', '', false],
])('the variant that was not chosen holds %s', async (_, legacy, expected) => {
  const { choice } = choiceOn('', legacy);
  await choice.choose(both, 'auto');
  expect(choice.mayHoldOurs('legacy', both)).toBe(expected);
});

test('what was not looked at may hold something of ours', async () => {
  const { choice, fake } = choiceOn('', '');
  expect(choice.mayHoldOurs('legacy', both)).toBe(true);
  await choice.choose([4], 'auto');
  expect(choice.mayHoldOurs('legacy', [4])).toBe(false);
  expect(choice.mayHoldOurs('legacy', both)).toBe(true);
  const other = new VariantChoice(fake, silentLogger);
  fake.run = (file) =>
    Promise.resolve({ status: file.includes('legacy') ? 1 : 0, signal: null, stdout: '', stderr: '' });
  await other.choose(both, 'auto');
  expect(other.mayHoldOurs('legacy', both)).toBe(true);
});

test('a variant that was given out once may hold rules of ours from then on', async () => {
  const { choice } = choiceOn('', '');
  await choice.choose(both, 'auto');
  await choice.choose(both, 'legacy');
  await choice.choose(both, 'auto');
  expect([choice.mayHoldOurs('nft', both), choice.mayHoldOurs('legacy', both)]).toEqual([true, true]);
});
