import { beforeEach, expect, test } from '@jest/globals';
import type { Link } from '#native/types.ts';
import { testEndpoint } from '../shared/test-config.ts';
import type { Announcements } from './announcements.ts';
import type { Unit } from './classifier/units.ts';
import type { NodeMaps } from './node-maps.ts';
import { type DeviceSide, newOutcome, type Outcome, PodCycle } from './pod-cycle.ts';
import { PodEndpoints } from './pod-endpoints.ts';

const id = 'k8s/default/web/eth0';
const devices: DeviceSide = { attach: () => Promise.resolve(), isShaped: () => false };

let flushes: number;
/** Which flush fails; 0: none. */
let failing: number;
let endpoints: PodEndpoints;
let cycle: PodCycle;

beforeEach(() => {
  [flushes, failing] = [0, 0];
  const unit = { number: 1, failure: undefined } as Unit;
  const nothing = () => {};
  const maps = {
    classifier: { onNumber: nothing, acquire: () => unit, release: nothing, failed: [] },
    slots: { take: nothing, store: () => 1, name: nothing, release: nothing },
    hops: { set: nothing },
    flush: async () => {
      if (++flushes === failing) throw new Error('no memory');
    },
  } as unknown as NodeMaps;
  const announcements = { announce: nothing, withdraw: nothing } as unknown as Announcements;
  const links = {
    find: (name: string) => ({ name, index: 7, mac: 'ee:ee:ee:ee:ee:ee' }) as Link,
    forget: nothing,
  };
  endpoints = new PodEndpoints();
  cycle = new PodCycle(links, endpoints, announcements, maps);
  endpoints.record({ type: 'workloadEndpointUpdate', id, endpoint: testEndpoint(1) });
});

async function program(): Promise<Outcome & { isFlushed: boolean }> {
  const outcome = newOutcome();
  return { ...outcome, isFlushed: await cycle.program(outcome, devices) };
}

test('pods cost two flushes, and a cycle without any one', async () => {
  expect(await program()).toMatchObject({ programmed: [id], failed: [], isFlushed: true });
  expect(flushes).toBe(2);
  expect(await program()).toMatchObject({ programmed: [], failed: [], isFlushed: true });
  expect(flushes).toBe(3);
});

test.each([1, 2])('a pod is not ready as long as flush %d of its cycle has failed', async (which) => {
  failing = which;
  const { programmed, failed, isFlushed } = await program();
  expect({ programmed, isFlushed }).toEqual({ programmed: [], isFlushed: false });
  expect(failed).toContainEqual({ object: `endpoint ${id}`, endpoint: id, reason: 'no memory' });
  expect(await program()).toMatchObject({ programmed: [id], failed: [], isFlushed: true });
});
