import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { hashRules, parseSave, renderRules } from './rules.ts';

describe('rule hashes', () => {
  test('stay the same from one release to the next: a restart must not rewrite tables', () => {
    expect(hashRules('cali-PREROUTING', ['-i cali+ -j DROP', '-j ACCEPT']).hashes).toEqual([
      'AIpqv4crtQTiWKW4',
      '7jE_8P1rFc3FxKMq',
    ]);
  });

  test('are equal up to the first difference and different from there on', () => {
    fc.assert(
      fc.property(
        fc.array(fc.string(), { maxLength: 8 }),
        fc.array(fc.string(), { maxLength: 8 }),
        fc.array(fc.string(), { maxLength: 8 }),
        (common, a, b) => {
          const left = hashRules('c', [...common, ...a]);
          const right = hashRules('c', [...common, ...b]);
          for (let i = 0; i < Math.max(left.rules.length, right.rules.length); i += 1) {
            const equalSoFar =
              left.rules.slice(0, i + 1).join('\0') === right.rules.slice(0, i + 1).join('\0') &&
              left.rules.length > i &&
              right.rules.length > i;
            expect(left.hashes[i] === right.hashes[i]).toBe(equalSoFar);
          }
        },
      ),
      { numRuns: 300 },
    );
  });

  test('differ between chains', () => {
    expect(hashRules('a', ['-j DROP']).hashes).not.toEqual(hashRules('b', ['-j DROP']).hashes);
  });
});

describe('parsing iptables-save', () => {
  test('finds tables, chains, policies and rules; the hash with and without quotes', () => {
    const wanted = hashRules('cali-a', ['-j DROP']);
    const [line = ''] = renderRules('-A cali-a', wanted);
    const text = `# Generated\n*raw\n:PREROUTING DROP [1:2]\n:cali-a - [0:0]\n-A PREROUTING -p tcp -j cali-a\n${line}\n${line.replaceAll('"', '')}\nCOMMIT\n*nat\n:OUTPUT ACCEPT [0:0]\nCOMMIT\n`;
    const tables = parseSave(text);
    expect([...tables.keys()]).toEqual(['raw', 'nat']);
    expect(tables.get('raw')?.get('PREROUTING')).toEqual({ policy: 'DROP', rules: [{ text: '-p tcp -j cali-a' }] });
    expect(
      tables
        .get('raw')
        ?.get('cali-a')
        ?.rules.map(({ hash }) => hash),
    ).toEqual([wanted.hashes[0], wanted.hashes[0]]);
  });

  test("doesn't take another program's comment for ours", () => {
    const tables = parseSave(
      '*nat\n:X - [0:0]\n-A X -m comment --comment "cali:short" -j ACCEPT\n-A X -m comment --comment "see cali:0123456789abcdef" -j ACCEPT\nCOMMIT\n',
    );
    expect(
      tables
        .get('nat')
        ?.get('X')
        ?.rules.map(({ hash }) => hash),
    ).toEqual([undefined, undefined]);
  });
});
