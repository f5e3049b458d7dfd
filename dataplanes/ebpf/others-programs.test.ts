import { beforeEach, describe, expect, test } from '@jest/globals';
import type { TcxPrograms } from '#native/bpf.ts';
import { OthersPrograms } from './others-programs.ts';

const ours = new Set([1, 2]);
const device = 7;

describe('programs of others on pods’ devices', () => {
  let kernel: TcxPrograms[];
  let asked: (readonly number[])[];
  let others: OthersPrograms;

  beforeEach(() => {
    kernel = [];
    asked = [];
    others = new OthersPrograms({ path: '/ns' }, async (ifindexes, netns) => {
      expect(netns).toEqual({ path: '/ns' });
      asked.push(ifindexes);
      return kernel;
    });
  });

  test('nobody is asked about a device on which nothing was seen', async () => {
    others.noteFilters(device, false);
    await others.ask(ours);
    expect([asked, others.has(device), others.takeChanged()]).toEqual([[], false, []]);
  });

  test('filters are told once, and have the other kind looked for', async () => {
    others.noteFilters(device, true);
    others.noteFilters(device, true);
    expect([others.has(device), others.takeChanged(), others.takeChanged()]).toEqual([true, [device], []]);
    await others.ask(ours);
    await others.ask(ours);
    expect(asked).toEqual([[device]]);
    others.noteFilters(device, false);
    expect([others.has(device), others.takeChanged()]).toEqual([false, [device]]);
  });

  test.each<[string, Partial<TcxPrograms>, boolean]>([
    ['ours alone are none', { ingress: [1], egress: [2] }, false],
    ['others behind ours at ingress', { ingress: [1, 3] }, true],
    ['others before ours there see everything', { ingress: [3, 1] }, false],
    ['so do they all before our filter', { ingress: [3] }, false],
    ['at egress wherever they are', { egress: [3, 2] }, true],
  ])('of tcx programs %s', async (_, programs, expected) => {
    kernel = [{ ifindex: device, ingress: [], egress: [], ...programs }];
    others.suspect(device);
    await others.ask(ours);
    expect([others.has(device), others.takeChanged()]).toEqual([expected, expected ? [device] : []]);
  });

  test('a device has some until both kinds are gone', async () => {
    kernel = [{ ifindex: device, ingress: [], egress: [3] }];
    others.noteFilters(device, true);
    await others.ask(ours);
    expect(others.takeChanged()).toEqual([device]);
    others.noteFilters(device, false);
    expect([others.has(device), others.takeChanged()]).toEqual([true, []]);
    kernel = [];
    await others.ask(ours);
    expect([others.has(device), others.takeChanged()]).toEqual([false, [device]]);
  });

  test('what can’t be asked is asked again; of a device that is gone nothing is left', async () => {
    let fails = true;
    const all = new OthersPrograms(undefined, async (ifindexes) => {
      if (fails) throw Object.assign(new Error('no memory'), { code: 'ENOMEM' });
      return ifindexes.map((ifindex) => ({ ifindex, ingress: [], egress: [9] }));
    });
    all.suspect(device);
    await expect(all.ask(ours)).rejects.toMatchObject({ code: 'ENOMEM' });
    fails = false;
    await all.ask(ours);
    expect(all.has(device)).toBe(true);
    all.forget(device);
    expect([all.has(device), all.takeChanged()]).toEqual([false, []]);
  });
});
