import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import type { Filter, Netlink } from '#native/types.ts';
import { ourFilter } from '../filters.ts';
import type { LoadedDataplane } from '../loaded-dataplane.ts';
import { hostDevice } from './device-for-tests.ts';
import { type EnforcedDevice, HostEnforcement } from './host-enforcement.ts';

/** No device of this machine has it. */
const ifindex = 0x7fffff00;
const device: EnforcedDevice = { ...hostDevice(ifindex), isUntracked: false };
const xdp = { enabled: false, generic: false };
const loaded = {
  filters: { fromNet: { id: 1, fd: 11 }, toNet: { id: 2, fd: 12 } },
  enterHosts: () => Promise.resolve(),
  leaveHosts: () => {},
} as unknown as LoadedDataplane;

let dir: string;
let error: Error | undefined;
let looks: number;
let enforcement: HostEnforcement;

beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'tortie-enforcement-'));
  error = undefined;
  looks = 0;
  const host = {
    links: () => Promise.resolve([]),
    filters: () => Promise.resolve([]),
    /** The device has the filters already. */
    filtersSync: (_: number, direction: 'ingress' | 'egress') => {
      looks++;
      if (error !== undefined) throw error;
      const [name, programId] = direction === 'ingress' ? ['tortie_from_net', 1] : ['tortie_to_net', 2];
      return [{ ...ourFilter, direction, name, programId } as Filter];
    },
  } as unknown as Netlink;
  enforcement = new HostEnforcement({ host, dir, hasTcx: false });
});

afterEach(async () => {
  await enforcement[Symbol.asyncDispose]();
  rmSync(dir, { recursive: true, force: true });
});

const keep = (...devices: EnforcedDevice[]) => enforcement.keep(loaded, devices, xdp);

describe("programs on host endpoints' devices", () => {
  test('are looked at once, and then after there is a reason', async () => {
    expect(await keep(device)).toMatchObject({ isSettled: true, failed: [] });
    const before = looks;
    expect(await keep(device)).toMatchObject({ isSettled: true });
    expect(looks).toBe(before);
    expect(enforcement.suspect(ifindex)).toBe(true);
    expect(await keep(device)).toMatchObject({ isSettled: true });
    expect(looks).toBeGreaterThan(before);
  });

  test('are looked at until their device is there again, when it was not for a moment', async () => {
    await keep(device);
    enforcement.suspect(ifindex);
    error = Object.assign(new Error('gone'), { code: 'ENODEV' });
    expect(await keep(device)).toMatchObject({ isSettled: false, failed: [] });
    error = undefined;
    expect(await keep(device)).toMatchObject({ isSettled: true });
    expect(await keep(device)).toMatchObject({ isSettled: true });
    expect(enforcement.hasSuspects).toBe(false);
  });

  test('that could not be attached are no reason to look, once the device needs none', async () => {
    error = Object.assign(new Error('not permitted'), { code: 'EPERM' });
    expect(await keep(device)).toMatchObject({
      isSettled: false,
      failed: [{ object: 'host endpoint up', reason: 'its device eth0: not permitted' }],
    });
    error = undefined;
    expect(await keep()).toMatchObject({ isSettled: true });
    expect(enforcement.hasSuspects).toBe(false);
  });
});
