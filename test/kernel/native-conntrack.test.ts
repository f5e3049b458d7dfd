import { describe, expect, test } from '@jest/globals';
import { openConntrack } from '#native/conntrack.ts';
import { createNetns, type TestNetns } from '#test/lab/netns.ts';

interface Flow {
  readonly src: string;
  readonly dst: string;
  readonly sport: number;
  /** Who really answers, and to whom: what translation made of `dst` and `src`. */
  readonly answers?: string;
  readonly answersTo?: string;
  readonly zone?: number;
}

/** Puts an established TCP connection into the namespace's table. */
const insert = (ns: TestNetns, { src, dst, sport, answers, answersTo, zone }: Flow): Promise<string> =>
  ns.exec(
    'sh',
    '-ec',
    `conntrack -I -p tcp -s ${src} -d ${dst} --sport ${sport} --dport 80 -r ${answers ?? dst} -q ${answersTo ?? src} ` +
      `--reply-port-src 80 --reply-port-dst ${sport} --state ESTABLISHED -t 600 ${zone === undefined ? '' : `-w ${zone}`} 2>/dev/null`,
  );

/** Puts so many connections between two other addresses into the table. */
const insertMany = (ns: TestNetns, net: string, count: number): Promise<string> =>
  ns.exec(
    'sh',
    '-ec',
    `for n in $(seq 1 ${count}); do echo "-I -p tcp -s ${net}8 -d ${net}9 --sport $n --dport 80 --state ESTABLISHED -t 600"; done | conntrack --load-file - >/dev/null 2>&1`,
  );

/** The source ports of what is left, sorted. */
const left = async (ns: TestNetns): Promise<number[]> => {
  const printed = await ns.exec('sh', '-ec', '(conntrack -L -f ipv4; conntrack -L -f ipv6) 2>/dev/null');
  return [...printed.matchAll(/^\S.*?sport=(\d+)/gm)].map(([, port]) => Number(port)).sort((a, b) => a - b);
};

const families = [
  { family: 4, net: '10.65.0.', outside: '192.0.2.1', service: '10.96.0.1' },
  { family: 6, net: 'fd00:65::', outside: '2001:db8::1', service: 'fd00:96::1' },
];

describe.each(families)('connection tracking, IPv$family', ({ net, outside, service }) => {
  test('entries that an address began or answers go, translated ones too, in any zone; others stay', async () => {
    await using ns = await createNetns();
    using conntrack = openConntrack({ path: ns.path });
    const pod = `${net}1`;
    for (const flow of [
      { src: pod, dst: `${net}2`, sport: 1 },
      { src: `${net}2`, dst: pod, sport: 2 },
      { src: `${net}2`, dst: service, sport: 3, answers: pod },
      { src: pod, dst: outside, sport: 4, answersTo: outside },
      { src: pod, dst: `${net}2`, sport: 5, zone: 7 },
      { src: `${net}2`, dst: `${net}3`, sport: 6 },
      { src: `${net}11`, dst: service, sport: 7, answers: `${net}2` },
    ])
      await insert(ns, flow);
    expect(await conntrack.deleteOf([pod])).toBe(5);
    expect(await left(ns)).toEqual([6, 7]);
    expect(await conntrack.deleteOf([pod])).toBe(0);
  });

  test('entries between two of the addresses count once', async () => {
    await using ns = await createNetns();
    using conntrack = openConntrack({ path: ns.path });
    await insert(ns, { src: `${net}1`, dst: `${net}2`, sport: 1 });
    expect(await conntrack.deleteOf([`${net}1`, `${net}2`])).toBe(1);
  });

  test('in a long table the kernel looks for an address, with the same result', async () => {
    await using ns = await createNetns();
    using conntrack = openConntrack({ path: ns.path });
    // As many as make the filtered walks cheaper than one reading.
    await insertMany(ns, net, 6_000);
    await insert(ns, { src: `${net}1`, dst: `${net}2`, sport: 50_001 });
    await insert(ns, { src: `${net}2`, dst: service, sport: 50_002, answers: `${net}1` });
    expect(await conntrack.deleteOf([`${net}1`])).toBe(2);
    expect((await left(ns)).filter((port) => port > 50_000)).toEqual([]);
    expect(await left(ns)).toHaveLength(6_000);
  });

  test('many addresses are handled in one reading', async () => {
    await using ns = await createNetns();
    using conntrack = openConntrack({ path: ns.path });
    for (let n = 1; n <= 90; n += 1) await insert(ns, { src: `${net}${n}`, dst: outside, sport: n });
    const gone = Array.from({ length: 80 }, (_, n) => `${net}${n + 1}`);
    expect(await conntrack.deleteOf(gone)).toBe(80);
    expect(await left(ns)).toEqual([81, 82, 83, 84, 85, 86, 87, 88, 89, 90]);
  });
});

describe('connection tracking', () => {
  test('one call takes addresses of both families, and none is no failure', async () => {
    await using ns = await createNetns();
    using conntrack = openConntrack({ path: ns.path });
    await insert(ns, { src: '10.65.0.1', dst: '192.0.2.1', sport: 1 });
    await insert(ns, { src: 'fd00:65::1', dst: '2001:db8::1', sport: 2 });
    expect(await conntrack.deleteOf([])).toBe(0);
    expect(await conntrack.deleteOf(['10.65.0.1', 'fd00:65::1'])).toBe(2);
    expect(await left(ns)).toEqual([]);
  });

  test.each([['10.65.0.1/32'], ['nonsense'], [7], [undefined]])('%s is no address, and named', async (bad) => {
    await using ns = await createNetns();
    using conntrack = openConntrack({ path: ns.path });
    await expect(conntrack.deleteOf([bad as string])).rejects.toMatchObject({
      code: 'EINVAL',
      syscall: 'encode',
      message: expect.stringContaining(typeof bad === 'string' ? bad : 'is not an address'),
    });
  });

  test('after closing every call fails with EBADF', async () => {
    const conntrack = openConntrack();
    conntrack[Symbol.dispose]();
    await expect(conntrack.deleteOf(['10.0.0.1'])).rejects.toMatchObject({ code: 'EBADF' });
  });
});
