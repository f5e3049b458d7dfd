import { readFileSync } from 'node:fs';
import { expect, test } from '@jest/globals';
import { verdictTexts } from './bpf-types.gen.ts';

test('docs/troubleshoot.md explains each drop reason, once, and none that there is not', () => {
  const page = readFileSync(new URL('../../docs/troubleshoot.md', import.meta.url), 'utf8');
  const [, section = ''] = page.split('## Drop reasons, eBPF mode');
  const rows = section.split('\n').filter((line) => line.startsWith('| `'));
  const explained = rows.flatMap((row) =>
    [...(row.split('|')[1] ?? '').matchAll(/`([^`]+)`/g)].map(([, name]) => name),
  );
  const reasons = Object.values(verdictTexts).filter((text) => text !== 'passed');
  expect(new Set(explained)).toEqual(new Set(reasons));
  expect(explained).toHaveLength(reasons.length);
});
