/** Whatever comes in, a CNI answer comes out, and nothing is left. FUZZ_COUNT says how many inputs (default 60). */
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import type { TestNetns } from '../lab/netns.ts';
import { CniTestbed, containerId, podArgs, type Mode } from './cni-testbed.ts';

const count = Number(process.env['FUZZ_COUNT'] ?? '60');
const modes: readonly (readonly [Mode, number])[] = [
  ['server', count],
  ['standalone', Math.ceil(count / 6)],
];

/** A value in the place of another. */
const junk = fc.oneof(
  fc.constantFrom<unknown>(
    null,
    true,
    0,
    -1,
    1e308,
    '',
    '/',
    '../x',
    '0.0.0.0/0',
    '\u0000',
    [],
    {},
    [[[[]]]],
    'a'.repeat(5000),
  ),
  fc.jsonValue({ maxDepth: 3 }),
);
const envText = fc.oneof(
  fc.constantFrom(
    '',
    ' ',
    '/',
    '.',
    '..',
    '-',
    'a/b',
    'eth0',
    'x'.repeat(300),
    ';;=;',
    'IP=1',
    'MAC=zz',
    'K8S_POD_NAME=..;K8S_POD_NAMESPACE=-',
  ),
  fc.string({ unit: 'grapheme', maxLength: 40 }).map((text) => text.replaceAll('\0', '')),
);
const envNames = [
  'CNI_COMMAND',
  'CNI_CONTAINERID',
  'CNI_NETNS',
  'CNI_IFNAME',
  'CNI_ARGS',
  'CNI_PATH',
  'CNI_X',
] as const;
const keys = [
  ...[
    'cniVersion',
    'name',
    'type',
    'ipam',
    'mtu',
    'num_queues',
    'runtimeConfig',
    'prevResult',
    'args',
    'dns',
    'container_settings',
  ],
  ...[
    'feature_control',
    'include_default_routes',
    'cni.dev/valid-attachments',
    '__proto__',
    'capabilities',
    'device_type',
    'nodename',
  ],
];
const ipamKeys = ['type', 'assign_ipv4', 'assign_ipv6', 'ipv4_pools', 'ipv6_pools', 'subnet', 'ranges', 'routes'];

const input = fc.record({
  verb: fc.constantFrom('ADD', 'ADD', 'ADD', 'DEL', 'CHECK', 'GC', 'STATUS', 'VERSION'),
  version: fc.constantFrom('0.3.1', '0.4.0', '1.0.0', '1.1.0', '1.1.0', '0.2.0', '2.0.0'),
  env: fc.dictionary(fc.constantFrom(...envNames), envText, { maxKeys: 2 }),
  conf: fc.dictionary(fc.constantFrom(...keys), junk, { maxKeys: 2 }),
  ipam: fc.dictionary(fc.constantFrom(...ipamKeys), junk, { maxKeys: 2 }),
  isPod: fc.boolean(),
  /** Of the bytes: cut, or one changed. */
  bytes: fc.oneof(
    { weight: 5, arbitrary: fc.constant(undefined) },
    {
      weight: 1,
      arbitrary: fc.record({ cut: fc.nat(600), put: fc.option(fc.constantFrom('"', '{', ']', '\\', '\u0000', '9')) }),
    },
  ),
});

describe.each(modes)('fuzzed calls, %s', (mode, runs) => {
  let bed: CniTestbed;
  let container: TestNetns;
  beforeAll(async () => {
    bed = await CniTestbed.create(mode);
    bed.pod('web');
    container = await bed.container();
  });
  afterAll(async () => {
    await bed[Symbol.asyncDispose]();
  });

  test(
    `${runs} inputs give well-formed answers, and no leftover`,
    async () => {
      const id = containerId('fuzz');
      const base = await bed.node.exec('ip', '-o', 'link');
      const property = fc.asyncProperty(input, async ({ verb, version, env, conf, ipam, isPod, bytes }) => {
        const whole = JSON.stringify({
          ...bed.conf(),
          cniVersion: version,
          ipam: { type: 'calico-ipam', ...ipam },
          ...conf,
        });
        const stdin =
          bytes === undefined
            ? whole
            : whole.slice(0, bytes.cut) + (bytes.put === null ? '' : bytes.put + whole.slice(bytes.cut + 1));
        const full = { ...(isPod ? podArgs('web') : {}), ...env };
        const answer = await bed.call(verb, container.path, id, { stdin, env: full }).catch((error: unknown) => {
          throw new Error(`no JSON in the answer: ${String(error)}`);
        });
        if (answer.status === 0) {
          // What succeeded must be undone by its own DEL.
          const command = (env['CNI_COMMAND'] ?? verb) === 'ADD';
          if (command) expect(answer.json).toMatchObject({ cniVersion: expect.any(String), ips: expect.any(Array) });
          const undone = command
            ? await bed.call('DEL', container.path, id, { stdin, env: { ...full, CNI_COMMAND: 'DEL' } })
            : answer;
          expect(undone.status).toBe(0);
        } else {
          expect(answer.status).toBe(1);
          expect(answer.json).toMatchObject({
            cniVersion: expect.stringMatching(/^\d+\.\d+\.\d+$/),
            code: expect.any(Number),
            msg: expect.stringMatching(/./),
          });
          expect(answer.json['code']).not.toBe(999);
        }
        expect(await bed.node.exec('ip', '-o', 'link')).toBe(base);
        if (mode === 'server') expect(await bed.addressesInUse()).toBe(0);
      });
      await fc.assert(property, { numRuns: runs, verbose: fc.VerbosityLevel.Verbose }); // A failure prints the seed.
      expect((await container.ip<{ ifname: string }[]>('link')).map(({ ifname }) => ifname)).toEqual(['lo']);
    },
    Math.max(240_000, runs * 1_000),
  );
});
