import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { LinkRemover } from '#native/link-remover.ts';
import { openNetlink } from '#native/netlink.ts';
import type { Netlink, NetlinkOp, OpResult } from '#native/types.ts';
import { createNetns, type TestNetns } from '#test/lab/netns.ts';

let netns: TestNetns;
let netlink: Netlink;
let sent: NetlinkOp[];
let remover: LinkRemover;

beforeEach(async () => {
  netns = await createNetns();
  netlink = openNetlink(netns);
  sent = [];
  remover = new LinkRemover([watched(netlink)]);
});
afterEach(async () => {
  netlink[Symbol.dispose]();
  await netns[Symbol.asyncDispose]();
});

/** The same socket, telling what goes through it. */
function watched(target: Netlink): Netlink {
  return new Proxy(target, {
    get: (object, key) => {
      if (key === 'batch') {
        return (ops: readonly NetlinkOp[]): Promise<readonly OpResult[]> => {
          sent.push(...ops);
          return object.batch(ops);
        };
      }
      const value = Reflect.get(object, key) as unknown;
      return typeof value === 'function' ? (value.bind(object) as unknown) : value;
    },
  });
}

async function addDevices(count: number): Promise<readonly number[]> {
  const names = Array.from({ length: count }, (_, number) => `dev${number}`);
  await netlink.run(names.map((name) => ({ op: 'veth.add', name, peer: { name: `${name}p` } })));
  return names.map((name) => netlink.link(name)?.index ?? 0);
}

const names = async () => (await netlink.links()).map(({ name }) => name).toSorted();

describe('the link remover', () => {
  test('deletes what is asked for, and nothing else', async () => {
    const [first, second] = await addDevices(2);
    await remover.remove(first ?? 0);
    expect(await names()).toEqual(['dev1', 'dev1p', 'lo']);
    await remover.remove(second ?? 0);
    expect(await names()).toEqual(['lo']);
  });

  test('what is asked for while a deletion is under way goes in one step', async () => {
    const devices = await addDevices(20);
    await Promise.all(devices.map((index) => remover.remove(index)));
    expect(await names()).toEqual(['lo']);
    expect(sent.filter(({ op }) => op === 'link.del')).toHaveLength(1);
    expect(sent.filter(({ op }) => op === 'linkGroup.del')).toHaveLength(1);
  });

  test('several lanes delete at the same time, each what it took', async () => {
    const lanes = [openNetlink(netns), openNetlink(netns)];
    using several = new LinkRemover(lanes.map((lane) => watched(lane)));
    const devices = await addDevices(20);
    await Promise.all(devices.map((index) => several.remove(index)));
    expect(await names()).toEqual(['lo']);
    expect(sent.filter(({ op }) => op === 'link.del')).toHaveLength(2);
    expect(sent.filter(({ op }) => op === 'linkGroup.del')).toHaveLength(1);
  });

  test('a device that is gone already is no failure, alone or with others', async () => {
    const [first, second, third] = await addDevices(3);
    await netlink.run([{ op: 'link.del', link: second ?? 0 }]);
    await Promise.all([first, second, third].map((index) => remover.remove(index ?? 0)));
    await remover.remove(second ?? 0);
    expect(await names()).toEqual(['lo']);
  });

  test("someone else's device in the same group stays", async () => {
    const devices = await addDevices(4);
    const [kept, ...asked] = devices;
    // The group's number shows when it is first used; then someone takes the same one.
    await Promise.all(asked.slice(0, 2).map((index) => remover.remove(index)));
    await addGroupMember(kept ?? 0);
    const more = await addMore();
    await Promise.all([...asked.slice(2), ...more].map((index) => remover.remove(index)));
    expect(await names()).toEqual(['dev0', 'dev0p', 'lo']);
    expect(sent.filter(({ op }) => op === 'linkGroup.del')).toHaveLength(0);
  });

  test('a refusal reaches the one who asked, the others are done', async () => {
    const [device] = await addDevices(1);
    const results = await Promise.allSettled([
      remover.remove(device ?? 0),
      remover.remove(netlink.link('lo')?.index ?? 0),
    ]);
    expect(results.map(({ status }) => status)).toEqual(['fulfilled', 'rejected']);
    expect(await names()).toEqual(['lo']);
  });

  async function addGroupMember(index: number): Promise<void> {
    const probe = await addMore();
    const group = Promise.all(probe.map((link) => remover.remove(link)));
    await group;
    const used = sent.find((op) => op.op === 'link.set' && op.group !== undefined);
    if (used?.op !== 'link.set' || used.group === undefined) throw new Error('the remover has used no group');
    await netlink.run([{ op: 'link.set', link: index, group: used.group }]);
    sent.length = 0;
  }

  async function addMore(): Promise<readonly number[]> {
    const more = ['more0', 'more1', 'more2'];
    await netlink.run(more.map((name) => ({ op: 'veth.add', name, peer: { name: `${name}p` } })));
    return more.map((name) => netlink.link(name)?.index ?? 0);
  }
});
