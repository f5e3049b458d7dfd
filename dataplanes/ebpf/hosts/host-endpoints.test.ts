import { describe, expect, test } from '@jest/globals';
import { FakeClock } from '#api/fake-clock.ts';
import type { Netlink, NetlinkEvent } from '#native/types.ts';
import { TEST_CONFIG, testHostEndpoint } from '../../shared/test-config.ts';
import { silentLogger } from '../../silent-logger.ts';
import { newOutcome } from '../pod-cycle.ts';
import { HostEndpoints } from './host-endpoints.ts';

const endpoint = testHostEndpoint({ ifaceName: 'eth0' });

/** Host endpoints on a node without devices, and how many monitors they have open. */
function create() {
  const clock = new FakeClock({ sleepsPass: true });
  let open = 0;
  const openMonitor = () => {
    open++;
    const { promise, resolve } = Promise.withResolvers<void>();
    return {
      [Symbol.asyncIterator]: (): AsyncIterator<NetlinkEvent> => ({
        next: async () => {
          await promise;
          return { done: true, value: undefined };
        },
      }),
      [Symbol.dispose]: () => {
        open--;
        resolve();
      },
    };
  };
  const nothing = async () => [];
  const host = { links: nothing, addresses: nothing, routes: nothing } as unknown as Netlink;
  const place = { dir: '/nowhere', objects: '/nowhere', sizes: { devices: 1, sources: 1 } };
  const hosts = new HostEndpoints({ host, openMonitor, place, nodeName: 'here', clock, log: silentLogger }, () => {});
  const look = async (): Promise<void> => {
    const outcome = newOutcome();
    await hosts.look(outcome);
    expect(outcome.failed).toEqual([]);
  };
  hosts.record({ type: 'configUpdate', config: TEST_CONFIG });
  hosts.record({ type: 'hostEndpointUpdate', id: 'up', endpoint });
  return { hosts, look, clock, open: () => open };
}

describe('host endpoints', () => {
  test('and uplinks are followed by one monitor, until the dataplane is let go', async () => {
    const { hosts, look, open } = create();
    await look();
    hosts.record({ type: 'hostEndpointRemove', id: 'up' });
    await look();
    expect(open()).toBe(1);
    await hosts.letGo();
    expect(open()).toBe(0);
  });

  test('that have no uplink besides are said, with what was looked for', async () => {
    const { hosts, look } = create();
    await look();
    expect(hosts.notes).toEqual([expect.stringContaining('a default route')]);
    hosts.record({ type: 'configUpdate', config: { ...TEST_CONFIG, uplinkPattern: '^bond' } });
    await look();
    expect(hosts.notes).toEqual([expect.stringContaining('bpfDataIfacePattern (^bond)')]);
  });

  test('are looked at from time to time, also after a dataplane that was let go is used again', async () => {
    const { hosts, look, clock } = create();
    await look();
    expect(clock.pending).toBe(1);
    await hosts.letGo();
    expect(clock.pending).toBe(0);
    await look();
    expect(clock.pending).toBe(1);
  });
});
