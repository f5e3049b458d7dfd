import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { hashRules, renderRules, ruleTag, signatureOf, tagIndex } from './rules.ts';
import { parseCounters, parseSave } from './saved.ts';

/** What a save shows of a chain of ours. */
const seen = (name: string, lines: readonly string[]): string | undefined =>
  parseSave(`*raw\n:${name} - [0:0]\n${lines.join('\n')}\nCOMMIT\n`)
    .get('raw')
    ?.ours.get(name);

describe('tags of rules', () => {
  test('stay the same from one release to the next: a restart must not rewrite tables', () => {
    expect(renderRules('-A cali-a', hashRules('cali-a', ['-j DROP', '-j ACCEPT']))).toEqual([
      '-A cali-a -j DROP -m comment --comment "cali:yCd1A5K-ChPgsAAA"',
      '-A cali-a -j ACCEPT -m comment --comment "cali:yCd1A5K-ChPgsAAB"',
    ]);
  });

  test('show that a chain is exactly what is wanted, or that it is not', () => {
    const rule = fc.constantFrom('-j DROP', '-j ACCEPT', '-i cali+ -j RETURN', '-p tcp');
    const list = fc.array(rule, { maxLength: 5 });
    fc.assert(
      fc.property(list, list, (wanted, found) => {
        const same = seen('cali-a', renderRules('-A cali-a', hashRules('cali-a', found)));
        expect(same === signatureOf(hashRules('cali-a', wanted))).toBe(wanted.join() === found.join());
      }),
      { numRuns: 300 },
    );
  });

  test.each([
    ['a rule is missing at the end', (lines: string[]) => lines.slice(0, -1)],
    ['a rule is missing at the start', (lines: string[]) => lines.slice(1)],
    ['a rule is missing between', (lines: string[]) => lines.toSpliced(1, 1)],
    ['two are exchanged', ([a = '', b = '', c = '']: string[]) => [b, a, c]],
    ['one stands twice', ([a = '', ...rest]: string[]) => [a, a, ...rest]],
    ['another program put one in between', (lines: string[]) => lines.toSpliced(1, 0, '-A cali-a -j LOG')],
    ['another program put one first', (lines: string[]) => ['-A cali-a -j LOG', ...lines]],
    ['all are gone', () => []],
  ])('differ where %s', (_name, change) => {
    const wanted = hashRules('cali-a', ['-j DROP', '-j ACCEPT', '-j RETURN']);
    const lines = renderRules('-A cali-a', wanted);
    expect(seen('cali-a', lines)).toBe(signatureOf(wanted));
    expect(seen('cali-a', change(lines))).not.toBe(signatureOf(wanted));
  });

  test('differ between chains, and between places in a long one', () => {
    expect(hashRules('a', ['-j DROP']).hash).not.toBe(hashRules('b', ['-j DROP']).hash);
    const tags = Array.from({ length: 10_000 }, (_, index) => ruleTag('0123456789abc', index));
    expect(new Set(tags).size).toBe(10_000);
    expect(tags.map(tagIndex)).toEqual([...tags.keys()]);
    expect(tags.every((tag) => /^[\w-]{16}$/.test(tag))).toBe(true);
  });
});

describe('parsing iptables-save', () => {
  test('finds tables, chains, policies, rules and their numbers; the comment with and without quotes', () => {
    const wanted = hashRules('cali-a', ['-j DROP']);
    const [line = ''] = renderRules('-A cali-a', wanted);
    for (const ours of [line, line.replaceAll('"', '')]) {
      const text = `# Generated\n*raw\n:PREROUTING DROP [1:2]\n:cali-a - [0:0]\n:KUBE - [0:0]\n-A PREROUTING -p tcp -j cali-a\n-A KUBE -j DROP\n${ours}\nCOMMIT\n*nat\n:OUTPUT ACCEPT [0:0]\nCOMMIT\n`;
      const tables = parseSave(text);
      expect([...tables.keys()]).toEqual(['raw', 'nat']);
      const raw = tables.get('raw');
      expect([...(raw?.names ?? [])]).toEqual(['PREROUTING', 'cali-a', 'KUBE']);
      expect([...(raw?.others ?? [])]).toEqual([
        ['PREROUTING', { policy: 'DROP', rules: [{ text: '-p tcp -j cali-a' }] }],
      ]);
      expect([...(raw?.ours ?? [])]).toEqual([['cali-a', signatureOf(wanted)]]);
      expect(raw?.ruleCounts).toEqual({ ours: 1, others: 2 });
    }
  });

  test("doesn't take another program's comment for ours", () => {
    const tables = parseSave(
      '*nat\n:X ACCEPT [0:0]\n-A X -m comment --comment "cali:short" -j ACCEPT\n-A X -m comment --comment "see cali:0123456789abcdef" -j ACCEPT\nCOMMIT\n',
    );
    expect(
      tables
        .get('nat')
        ?.others.get('X')
        ?.rules.map(({ tag }) => tag),
    ).toEqual([undefined, undefined]);
    expect(tables.get('nat')?.ruleCounts).toEqual({ ours: 0, others: 2 });
  });

  test('says which tables iptables cannot show', () => {
    const tables = parseSave("# Table `filter' is incompatible, use 'nft' tool.\n*raw\n:OUTPUT ACCEPT [0:0]\nCOMMIT\n");
    expect([...tables].map(([name, { isUnreadable }]) => [name, isUnreadable])).toEqual([
      ['filter', true],
      ['raw', false],
    ]);
  });

  test('counters are of our rules in our chains only', () => {
    const text =
      '*raw\n:cali-a - [0:0]\n[7:700] -A PREROUTING -m comment --comment "cali:0123456789abcdef" -j cali-a\n' +
      '[5:500] -A cali-a -m comment --comment "cali:0123456789abcdef" -j DROP\n[1:1] -A cali-a -j DROP\nCOMMIT\n';
    expect([...parseCounters(text)]).toEqual([
      { table: 'raw', chain: 'cali-a', tag: '0123456789abcdef', packets: 5, bytes: 500 },
    ]);
  });
});
