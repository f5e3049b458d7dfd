import { rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, test } from '@jest/globals';
import { context, everything, type Everything } from '#dataplanes/iptables/render/everything-for-tests.ts';
import { TABLE_NAMES } from '#dataplanes/iptables/render/types.ts';
import type { DataplaneConfig } from '#dataplanes/messages.ts';
import { openIpset } from '#native/ipset.ts';
import { createNetns, uniqueName, type TestNetns } from '#test/lab/netns.ts';

/** Configurations that between them choose every branch of the settings. */
const configs: Record<string, Partial<DataplaneConfig>> = {
  'the defaults': {
    failsafeInbound: [
      { protocol: 'tcp', port: 22 },
      { protocol: 'udp', port: 68, net: '0.0.0.0/0' },
      { protocol: 'sctp', port: 9, net: 'fd00::/8' },
    ],
    failsafeOutbound: [{ protocol: 'udp', port: 53, net: '10.0.0.0/8' }],
  },
  'everything turned': {
    interfacePrefixes: ['cali', 'tap'],
    markMask: 0xf8000000,
    endpointToHostAction: 'return',
    serviceLoopPrevention: 'reject',
    filterAllowAction: 'return',
    mangleAllowAction: 'return',
    filterDenyAction: 'reject',
    logPrefix: '%t %k %n %p',
    logRate: { rate: '10/second', burst: 5 },
    allowInvalid: true,
    allowVxlanFromWorkloads: true,
    allowIpipFromWorkloads: true,
  },
};

const cases = (['nft', 'legacy'] as const).flatMap((variant) =>
  ([4, 6] as const).flatMap((family) => Object.keys(configs).map((config) => ({ variant, family, config }))),
);

describe.each(cases)('iptables-$variant, IPv$family, $config', ({ variant, family, config }) => {
  test('the tools take everything that is rendered, keep every rule with its hash, and give it back as it was given', async () => {
    await using ns = await createNetns(uniqueName());
    const rendered = everything(context(family, configs[config]));
    await makeSets(ns, rendered, family);
    const tool = `${family === 4 ? 'iptables' : 'ip6tables'}-${variant}`;
    await using input = await inputFile(restoreInput(rendered));
    await ns.exec('sh', '-ec', `${tool}-restore --noflush --test <${input.path}`);
    await ns.exec('sh', '-ec', `${tool}-restore --noflush <${input.path}`);

    const saved = await saveAll(ns, tool);
    const found = readSaved(saved);
    const tagsOf = (table: string, chain: string) =>
      (found.get(`${table} ${chain}`) ?? []).map((text) => /cali:(\S{16})"? /.exec(text)?.[1]);
    for (const table of TABLE_NAMES) {
      const { chains, hooks } = rendered.tables[table];
      for (const { name, rules } of chains) {
        expect([table, name, tagsOf(table, name)]).toEqual([table, name, rules.map((_, index) => tag(index))]);
      }
      for (const [name, { first = [], last = [] }] of hooks) {
        expect([table, name, tagsOf(table, name).length]).toEqual([table, name, first.length + last.length]);
      }
    }

    // What was saved means the same: read back it is the same, and no match or target was lost on the way.
    await using again = await inputFile(saved);
    await ns.exec('sh', '-ec', `${tool}-restore <${again.path}`);
    expect(withoutNotes(await saveAll(ns, tool))).toEqual(withoutNotes(saved));
    for (const table of TABLE_NAMES) {
      for (const { name, rules } of rendered.tables[table].chains) {
        const texts = found.get(`${table} ${name}`) ?? [];
        rules.forEach(({ text }, index) => {
          expect({ rule: text, has: parts(texts[index] ?? '', 1) }).toEqual({ rule: text, has: parts(text, 0) });
        });
      }
    }
  });
});

/** How many matches of each kind a rule has, and its target: what must survive whatever the tool's spelling is. */
function parts(rule: string, hashComments: number): Record<string, number | string> {
  const count = (pattern: RegExp): number => [...rule.replaceAll(/"[^"]*"/g, '""').matchAll(pattern)].length;
  return {
    sets: count(/--match-set/g),
    multiports: count(/-m multiport/g),
    marks: count(/-m mark/g),
    conntrack: count(/-m conntrack/g),
    icmp: count(/--icmp(v6)?-type/g),
    limits: count(/-m limit/g),
    protocols: count(/(^| )-p /g),
    addresses: count(/(^| )-[sd] /g),
    devices: count(/(^| )-[io] /g),
    negations: count(/! /g),
    comments: count(/--comment/g) - hashComments,
    target: /(?:^| )-[jg] \S+/.exec(rule)?.[0].trim() ?? 'none',
  };
}

/** Without the lines that carry a time or counters. */
const withoutNotes = (saved: string): string =>
  saved
    .split('\n')
    .filter((line) => !line.startsWith('#'))
    .map((line) => line.replace(/ \[\d+:\d+\]$/, ''))
    .join('\n');

async function makeSets(ns: TestNetns, { sets }: Everything, family: 4 | 6): Promise<void> {
  using ipset = openIpset({ path: ns.path });
  for (const [name, type] of sets) await ipset.create({ name, type, family });
}

/** A stand-in for the hash of a rule: what the driver finds its rules by. */
const tag = (index: number): string => String(index).padStart(16, 'h');

/** As the table driver writes it. */
function restoreInput({ tables }: Everything): string {
  const tagged = (chain: string, texts: readonly string[]): string[] =>
    texts.map((text, index) => `-A ${chain} -m comment --comment "cali:${tag(index)}" ${text}`);
  return TABLE_NAMES.map((table) => {
    const { chains, hooks } = tables[table];
    return [
      `*${table}`,
      ...chains.map(({ name }) => `:${name} - [0:0]`),
      ...chains.flatMap(({ name, rules }) =>
        tagged(
          name,
          rules.map(({ text }) => text),
        ),
      ),
      ...[...hooks].flatMap(([name, { first = [], last = [] }]) => tagged(name, [...first, ...last])),
      'COMMIT',
      '',
    ].join('\n');
  }).join('');
}

const saveAll = (ns: TestNetns, tool: string): Promise<string> =>
  ns.exec('sh', '-ec', TABLE_NAMES.map((table) => `${tool}-save -t ${table}`).join('; '));

/** The rules by `<table> <chain>`, each without `-A <chain>`. */
function readSaved(saved: string): Map<string, string[]> {
  const chains = new Map<string, string[]>();
  let table = '';
  for (const line of saved.split('\n')) {
    if (line.startsWith('*')) table = line.slice(1);
    const [, chain = '', text = ''] = /^-A (\S+) (.*)$/.exec(line) ?? [];
    if (chain === '') continue;
    const key = `${table} ${chain}`;
    chains.set(key, [...(chains.get(key) ?? []), text]);
  }
  return chains;
}

/** A file that is gone at the end of its block. */
async function inputFile(text: string): Promise<AsyncDisposable & { readonly path: string }> {
  const path = join(tmpdir(), `${uniqueName()}.rules`);
  await writeFile(path, text);
  return { path, [Symbol.asyncDispose]: () => rm(path, { force: true }) };
}
