import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { pino } from 'pino';
import { FakeClock } from '#api/fake-clock.ts';
import { Driver } from '../driver/driver.ts';
import { FakeDataplane } from '../driver/fake-dataplane.ts';
import { ActiveFile } from './active-file.ts';
import { DataplaneSwitch } from './switch.ts';

const silent = pino({ level: 'silent' });
let dir: string;
let clock: FakeClock;
let driver: Driver;
let events: string[];
/** Set up before a dataplane of that kind is made. */
let prepare: (dataplane: FakeDataplane) => void;
let change: DataplaneSwitch;

beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'tortie-switch-'));
  clock = new FakeClock();
  driver = new Driver(clock, silent);
  events = [];
  prepare = () => {};
  change = newSwitch();
});
afterEach(async () => {
  await change[Symbol.asyncDispose]();
  await driver[Symbol.asyncDispose]();
  rmSync(dir, { recursive: true });
});

function newSwitch(): DataplaneSwitch {
  const factory = (kind: string) => ({
    kind,
    create: () => {
      const dataplane = new FakeDataplane(kind, events);
      prepare(dataplane);
      return dataplane;
    },
  });
  return new DataplaneSwitch([factory('iptables'), factory('ebpf')], driver, new ActiveFile(dir), clock, silent);
}

describe('the switch', () => {
  test('enters the new dataplane before the old one leaves, and removes the old one last', async () => {
    await change.start('iptables');
    events.length = 0;
    await change.want('ebpf');
    expect(events).toEqual(['ebpf activate', 'iptables release', 'iptables cleanup', 'iptables dispose']);
    expect(change.status()).toEqual({ active: 'ebpf', wanted: 'ebpf', reasons: [] });
    expect(new ActiveFile(dir).read()).toBe('ebpf');
  });

  test('programs the new one before it enters', async () => {
    await change.start('iptables');
    driver.push([{ type: 'inSync' }]);
    let told: readonly string[] = [];
    prepare = (dataplane) => {
      dataplane.activate = () => {
        told = dataplane.updates.map(({ type }) => type);
        return Promise.resolve();
      };
    };
    await change.want('ebpf');
    expect(told).toEqual(['inSync']);
  });

  test('what was tried while the datastore was read is not tried again, unless it was refused', async () => {
    await change.start('iptables');
    const probes: string[] = [];
    let answer: () => Promise<readonly string[]> = () => Promise.resolve([]);
    prepare = (dataplane) => {
      dataplane.probe = () => {
        probes.push(dataplane.kind);
        return answer();
      };
    };
    const restart = async () => {
      await change[Symbol.asyncDispose]();
      change = newSwitch();
      probes.length = 0;
      change.lookAhead();
    };
    await restart();
    await change.start('iptables');
    expect(probes).toEqual(['iptables']);
    await change.want('ebpf');
    expect(probes).toEqual(['iptables', 'ebpf']);

    answer = () => Promise.resolve(['no ip_tables']);
    await restart();
    answer = () => Promise.resolve([]);
    await change.start('ebpf');
    expect(probes).toEqual(['ebpf', 'ebpf']);
    expect(change.status()).toEqual({ active: 'ebpf', wanted: 'ebpf', reasons: [] });

    answer = () => Promise.reject(new Error('no memory'));
    await restart();
    await change.start('ebpf');
    expect(change.status()).toEqual({ active: undefined, wanted: 'ebpf', reasons: ['ebpf: no memory'] });
  });

  test('stays where it is when the kernel lacks something, says what, and tries again later', async () => {
    await change.start('iptables');
    prepare = (dataplane) => {
      if (dataplane.kind === 'ebpf') dataplane.missing = ['no bpf(2)'];
    };
    await change.want('ebpf');
    expect(change.status()).toEqual({ active: 'iptables', wanted: 'ebpf', reasons: ['ebpf: no bpf(2)'] });
    prepare = () => {};
    clock.advance(30_000);
    await change.want('ebpf');
    expect(change.status()).toEqual({ active: 'ebpf', wanted: 'ebpf', reasons: [] });
  });

  test('a dataplane that can not be made is refused and tried again, and keeps no other from being used', async () => {
    prepare = (dataplane) => {
      if (dataplane.kind === 'ebpf') throw new Error('no memory');
    };
    await change.start('iptables');
    await change.want('ebpf');
    expect(change.status()).toEqual({ active: 'iptables', wanted: 'ebpf', reasons: ['ebpf: no memory'] });
    await change.want('iptables');
    expect(change.status()).toEqual({ active: 'iptables', wanted: 'iptables', reasons: [] });
    await change.want('ebpf');
    prepare = () => {};
    clock.advance(30_000);
    await change.want('ebpf');
    expect(change.status()).toEqual({ active: 'ebpf', wanted: 'ebpf', reasons: [] });
  });

  test('stays where it is when something could not be programmed, and leaves no trace of the try', async () => {
    await change.start('iptables');
    events.length = 0;
    prepare = (dataplane) => {
      dataplane.failing = [{ object: 'endpoint e', reason: 'map full' }];
    };
    await change.want('ebpf');
    expect(change.status()).toEqual({ active: 'iptables', wanted: 'ebpf', reasons: ['ebpf: endpoint e: map full'] });
    expect(events).toEqual(['ebpf cleanup', 'ebpf dispose']);
  });

  test('on a node without one, a dataplane that works in part is better than none', async () => {
    prepare = (dataplane) => {
      dataplane.failing = [{ object: 'endpoint e', reason: 'map full' }];
    };
    await change.start('ebpf');
    expect(change.status().active).toBe('ebpf');
  });

  test('after a restart it takes over the one in the path first, then goes to the wanted one', async () => {
    new ActiveFile(dir).write('ebpf');
    await change.start('iptables');
    expect(events.filter((event) => event.endsWith('activate') || event.endsWith('release'))).toEqual([
      'ebpf activate',
      'iptables activate',
      'ebpf release',
    ]);
  });

  test('after a start, what a crash left of the other one is removed', async () => {
    await change.start('iptables');
    expect(events).toEqual(['iptables activate', 'ebpf cleanup', 'ebpf dispose']);
  });

  test('a removal that fails is tried again', async () => {
    await change.start('iptables');
    prepare = (dataplane) => {
      dataplane.cleanupFailures = 1;
    };
    await change.want('ebpf');
    prepare = () => {};
    await change.want('iptables');
    events.length = 0;
    clock.advance(30_000);
    await change.want('iptables');
    expect(events).toContain('ebpf cleanup');
  });

  test('a dataplane that does not let go of the path is removed all the same', async () => {
    prepare = (dataplane) => {
      dataplane.release = () => Promise.reject(new Error('busy'));
    };
    await change.start('iptables');
    events.length = 0;
    await change.want('ebpf');
    expect(events).toEqual(['ebpf activate', 'iptables cleanup', 'iptables dispose']);
    expect(change.status()).toEqual({ active: 'ebpf', wanted: 'ebpf', reasons: [] });
  });

  test('a state dir that cannot be written keeps no dataplane in the path that should leave it', async () => {
    await change.start('iptables');
    events.length = 0;
    mkdirSync(join(dir, 'dataplane.json.tmp'));
    await change.want('ebpf');
    expect(events).toEqual(['ebpf activate', 'iptables release', 'iptables cleanup', 'iptables dispose']);
    expect(change.status()).toEqual({ active: 'ebpf', wanted: 'ebpf', reasons: [] });
  });

  test('a dataplane that cannot be closed does not end the switching', async () => {
    prepare = (dataplane) => {
      dataplane.missing = ['no bpf(2)'];
      dataplane[Symbol.asyncDispose] = () => Promise.reject(new Error('busy'));
    };
    await change.start('ebpf');
    prepare = () => {};
    await change.want('iptables');
    expect(change.status().active).toBe('iptables');
  });

  test('quick changes of mind end at the last wish', async () => {
    await change.start('iptables');
    await Promise.all([change.want('ebpf'), change.want('iptables'), change.want('ebpf'), change.want('iptables')]);
    expect(change.status().active).toBe('iptables');
  });

  test('while a switch is under way a new pod device gets what both need', async () => {
    await change.start('iptables');
    let during: readonly unknown[] = [];
    prepare = (dataplane) => {
      dataplane.activate = () => {
        during = change.podDeviceOps('cali1').map((op) => 'alias' in op && op.alias);
        return Promise.resolve();
      };
    };
    await change.want('ebpf');
    expect(during).toEqual(['iptables', 'ebpf']);
    expect(change.podDeviceOps('cali1')).toHaveLength(1);
  });

  test('a new pod device gets what the next dataplane needs, also when the other one leaves while it does its part', async () => {
    const linked: string[] = [];
    const asked = Promise.withResolvers<void>();
    const gate = Promise.withResolvers<void>();
    prepare = (dataplane) => {
      Object.assign(dataplane, {
        linkPodDevice: async () => {
          if (dataplane.kind === 'iptables') {
            asked.resolve();
            await gate.promise;
          }
          linked.push(dataplane.kind);
        },
      });
      const release = dataplane.release.bind(dataplane);
      dataplane.release = () => {
        linking = change.linkPodDevice('cali1');
        return release();
      };
    };
    let linking: Promise<void> | undefined;
    await change.start('iptables');
    await change.want('ebpf');
    await asked.promise;
    gate.resolve();
    await linking;
    expect(linked).toEqual(['iptables', 'ebpf']);
  });

  test('letting go leaves what is programmed', async () => {
    await change.start('iptables');
    events.length = 0;
    await change[Symbol.asyncDispose]();
    expect(events).toEqual(['iptables dispose']);
  });
});
