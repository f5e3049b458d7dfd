import { expect, test } from '@jest/globals';
import { detectVariant } from './backend.ts';
import { FakeXtables } from './fake-xtables.ts';

const rules = (count: number, rule = '-j ACCEPT'): string => `*filter\n${`-A FORWARD ${rule}\n`.repeat(count)}COMMIT\n`;
const canary = '*mangle\n:KUBE-KUBELET-CANARY - [0:0]\nCOMMIT\n';
const ours = '-m comment --comment "cali:0123456789abcdef" -j ACCEPT';

test.each([
  ['an empty host', '', '', 'nft'],
  ["more of others' rules in legacy", rules(2), rules(3), 'legacy'],
  ["more of others' rules in nft", rules(4), rules(3), 'nft'],
  ['as many in both', rules(3), rules(3), 'nft'],
  ["kubelet's chain in nft, more rules in legacy", canary, rules(9), 'nft'],
  ["kubelet's chain in legacy, more rules in nft", rules(9), canary, 'legacy'],
  ['only our own rules, in legacy', '', rules(2, ours), 'legacy'],
  ["our own rules in legacy, others' in nft", rules(1), rules(5, ours), 'nft'],
] as const)('auto: %s', async (_name, nft, legacy, expected) => {
  const fake = new FakeXtables();
  fake.write('iptables-nft', nft);
  fake.write('iptables-legacy', legacy);
  expect(await detectVariant(fake, [4, 6])).toMatchObject({ variant: expected });
});

test('takes the one that is installed, and says what to install when none is', async () => {
  const fake = new FakeXtables();
  fake.missing.add('iptables-nft-save');
  expect(await detectVariant(fake, [4])).toMatchObject({ variant: 'legacy' });
  fake.missing.add('iptables-legacy-save');
  await expect(detectVariant(fake, [4])).rejects.toMatchObject({
    code: 'XTABLES_MISSING',
    message: expect.stringContaining('Debian package iptables'),
  });
});
