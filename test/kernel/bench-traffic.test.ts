import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { buildTraffic, connects, ConnectWatch, repeat, serve, SliceClient } from '../../bench/policy/traffic.ts';
import { createNetns, type TestNetns } from '../lab/netns.ts';

const here = '127.0.0.1';
const closed = ['INPUT', '-p', 'tcp', '--dport', '80', '-j', 'DROP'] as const;
let netns: TestNetns;
const servers: Disposable[] = [];

beforeAll(async () => {
  await buildTraffic();
  netns = await createNetns();
  await netns.exec('ip', 'link', 'set', 'lo', 'up');
  servers.push(await serve(netns.path, 'echo'), await serve(netns.path, 'sink'));
});

afterAll(async () => {
  for (const server of servers) server[Symbol.dispose]();
  await netns[Symbol.asyncDispose]();
});

test.each(['connect', 'crr'] as const)('%s: as many as asked, each with a time', async (kind) => {
  const { us, perS } = await repeat(netns.path, kind, here, { count: 50, seconds: 50 });
  expect(us).toHaveLength(50);
  expect(us.every((time) => time > 0)).toBe(true);
  // The rate counts what lies between, too.
  expect(perS).toBeLessThanOrEqual(50 / (us.reduce((sum, time) => sum + time, 0) / 1e6));
});

test('no longer than asked', async () => {
  const { us } = await repeat(netns.path, 'crr', here, { count: 1_000_000, seconds: 0.1 });
  expect(us.length).toBeLessThan(1_000_000);
});

test('slices of streams and requests take turns, two clients on the same servers', async () => {
  using first = new SliceClient(netns.path, here);
  using second = new SliceClient(netns.path, here);
  let busyS = 0;
  for (const client of [first, second, first]) {
    const { seconds, gbit, cpuS } = await client.stream({ warmS: 0.02, seconds: 0.1 });
    expect(seconds).toBeGreaterThanOrEqual(0.1);
    expect(gbit).toBeGreaterThan(0);
    busyS += cpuS;
    for (const on of ['one CPU', 'two CPUs'] as const) {
      const us = await client.requests(on, { warmS: 0.01, seconds: 0.05 });
      expect(us.every((time) => time > 0)).toBe(true);
      const sumUs = us.reduce((sum, time) => sum + time, 0);
      expect(sumUs).toBeGreaterThan(0.049e6);
    }
  }
  // In one slice the ticks may say nothing.
  expect(busyS).toBeGreaterThan(0);
});

test('what does not listen any longer ends a client of slices', async () => {
  using client = new SliceClient(netns.path, '127.0.0.2');
  const refusal = ['-d', '127.0.0.2', '-p', 'tcp', '-j', 'REJECT', '--reject-with', 'tcp-reset'];
  await netns.exec('iptables', '-I', 'INPUT', ...refusal);
  try {
    await expect(client.stream({ warmS: 0.01, seconds: 0.01 })).rejects.toThrow('has ended');
  } finally {
    await netns.exec('iptables', '-D', 'INPUT', ...refusal);
  }
});

test('a connect that is dropped is none', async () => {
  expect(await connects(netns.path, here)).toBe(true);
  await netns.exec('iptables', '-I', ...closed);
  try {
    expect(await connects(netns.path, here)).toBe(false);
  } finally {
    await netns.exec('iptables', '-D', ...closed);
  }
});

test('the watch finds the moment at which connects begin to succeed', async () => {
  using watch = new ConnectWatch(netns.path);
  // More SYNs than it keeps waiting for an answer, then soon.
  for (const pauseMs of [30, 0, 0]) {
    await netns.exec('iptables', '-I', ...closed);
    const { accepted } = await watch.watch(here, here);
    await new Promise((resolve) => setTimeout(resolve, pauseMs));
    const before = Number(process.hrtime.bigint());
    await netns.exec('iptables', '-D', ...closed);
    const after = Number(process.hrtime.bigint());
    const { ns, gapNs } = await accepted;
    expect(ns).toBeGreaterThan(before);
    expect(gapNs).toBeGreaterThan(0);
    // Not the first SYN after iptables has ended, but the first that the kernel let through.
    expect(ns - gapNs).toBeLessThan(after);
  }
  await expect(watch.watch(here, here)).rejects.toThrow('already');
});
