/**
 * What may wait for the kernel's grace periods, or takes as long as a table is large, runs on workers: nothing of it happens while all of
 * them are busy, and the thread that asked goes on.
 */
import { mkdirSync, readFileSync, rmdirSync } from 'node:fs';
import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import { setImmediate as turn } from 'node:timers/promises';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import {
  attachCgroup,
  attachedPrograms,
  attachTcx,
  attachXdp,
  bpfGrace,
  type DeviceTarget,
  loadObject,
  type LoadedObject,
  probeBpf,
  tcxPrograms,
} from '#native/bpf.ts';
import { dumpConntrack } from '#native/conntrack-dump.ts';
import { proveNat } from '#native/conntrack-nat-proof.ts';
import { openConntrackTable } from '#native/conntrack-table.ts';
import { openConntrack } from '#native/conntrack.ts';
import { LinkRemover } from '#native/link-remover.ts';
import { openNetlink } from '#native/netlink.ts';
import type { NetnsRef } from '#native/types.ts';
import { makeWorkersBusy } from '#test/lab/busy-workers.ts';
import { cgroup2 } from '#test/lab/cgroups.ts';
import { createNetns, type TestNetns, uniqueName } from '#test/lab/netns.ts';
import { udpEntry } from './native-conntrack-lab.ts';

const elf = readFileSync(new URL('../../build/bpf/native.bpf.o', import.meta.url));
const hasTcx = (await probeBpf({ tcx: true })).answer === 'yes';
/** After so many turns of the event loop, what was done on its own thread would have been told. */
const turns = 200;

const cleanup = new AsyncDisposableStack();
let ns: TestNetns;
let netns: NetnsRef;
let lo: DeviceTarget;
let object: LoadedObject;

beforeAll(async () => {
  ns = cleanup.use(await createNetns());
  netns = { path: ns.path };
  lo = { ifindex: 1, netns };
  object = cleanup.use(await loadObject({ name: 'native', elf }));
});

afterAll(() => cleanup.disposeAsync());

/** Something that is ready to be done, and is begun later. */
type Ready = (stack: AsyncDisposableStack) => Promise<() => Promise<unknown>> | (() => Promise<unknown>);

const element = { key: new Uint8Array(4), value: new Uint8Array(8) };

const deeds: readonly (readonly [string, Ready, boolean?])[] = [
  ['a file is looked at, which Node does on a worker', () => () => stat('/')],
  ['an object is loaded', () => async () => (await loadObject({ name: 'native', elf }))[Symbol.dispose]()],
  ['a feature is probed', () => () => probeBpf({ clsact: true })],
  [
    'a tcx program is attached',
    () => async () => (await attachTcx(object.program('drops'), 'ingress', lo))[Symbol.asyncDispose](),
    true,
  ],
  [
    'a tcx program is replaced',
    async (stack) => {
      const link = stack.use(await attachTcx(object.program('first_of_tc'), 'ingress', lo));
      return () => link.update(object.program('second_of_tc'));
    },
    true,
  ],
  [
    'a tcx program is detached',
    async (stack) => {
      const link = stack.use(await attachTcx(object.program('first_of_tc'), 'ingress', lo));
      return () => link.detach();
    },
    true,
  ],
  [
    'a link is let go',
    async () => {
      const { link } = await attachXdp(object.program('passes'), lo);
      return async () => link[Symbol.asyncDispose]();
    },
  ],
  [
    'an XDP program is attached',
    () => async () => (await attachXdp(object.program('passes'), lo, 'generic')).link[Symbol.asyncDispose](),
  ],
  [
    'a program is attached to a control group',
    (stack) => {
      const group = join(cgroup2(), uniqueName());
      mkdirSync(group);
      stack.defer(() => rmdirSync(group));
      return async () => (await attachCgroup(object.program('allows'), 'connect4', group))[Symbol.asyncDispose]();
    },
  ],
  ['a device is asked for its programs', () => () => attachedPrograms({ ...lo, hook: 'xdp' })],
  ['devices are asked for their tcx programs', () => () => tcxPrograms([1], netns)],
  ['a map is dumped', () => () => object.map('hash').entries()],
  ['elements are written in a batch', () => () => object.map('hash').setMany([element])],
  ['elements are deleted in a batch', () => () => object.map('hash').deleteMany([element.key])],
  ['a program is run, as a sweep is', () => () => object.program('add').run({ context: new Uint8Array(16) })],
  ['a grace period is waited for', () => bpfGrace],
  [
    'a device is deleted',
    async (stack) => {
      await ns.exec('ip', 'link', 'add', 'va', 'type', 'veth', 'peer', 'name', 'vb');
      const remover = stack.use(LinkRemover.open(netns));
      using netlink = openNetlink(netns);
      const { index } = netlink.link('va') ?? { index: 0 };
      return () => remover.remove(index);
    },
  ],
  [
    'filters are changed apart from an ADD',
    (stack) => {
      const netlink = stack.use(openNetlink(netns));
      return () => netlink.run([{ op: 'clsact.add', link: 'lo' }]);
    },
  ],
  [
    'routes are listed',
    (stack) => {
      const netlink = stack.use(openNetlink(netns));
      return () => netlink.routes();
    },
  ],
  [
    'connections are listed',
    () => async () => {
      for await (const _ of dumpConntrack(4, netns));
    },
  ],
  [
    'connections are made',
    (stack) => {
      const table = stack.use(openConntrackTable(netns));
      return () => table.create([udpEntry(4, 1)]);
    },
  ],
  [
    "an address's connections are deleted",
    (stack) => {
      const conntrack = stack.use(openConntrack(netns));
      return () => conntrack.deleteOf(['192.0.2.1']);
    },
  ],
  ['translation is tried out', () => () => proveNat(4, netns)],
];

test.each(deeds.filter(([, , needsTcx]) => needsTcx !== true || hasTcx))(
  '%s: not by the thread that asks',
  async (_, ready) => {
    await using stack = new AsyncDisposableStack();
    const begin = await ready(stack);
    let isOver = false;
    let done: Promise<unknown>;
    {
      using _busy = makeWorkersBusy();
      done = begin().finally(() => (isOver = true));
      // Whoever fails meanwhile is told below.
      done.catch(() => {});
      for (let i = 0; i < turns; i++) await turn();
      expect(isOver).toBe(false);
    }
    await done;
  },
);
