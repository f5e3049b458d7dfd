import { expect, test } from '@jest/globals';
import { FakeClock } from '#api/fake-clock.ts';
import type { Netlink } from '#native/types.ts';
import { FakeXtables } from '../netfilter/fake-xtables.ts';
import { VariantChoice } from '../netfilter/variant-choice.ts';
import { TEST_CONFIG } from '../shared/test-config.ts';
import { silentLogger } from '../silent-logger.ts';
import { EbpfDataplane } from './ebpf.ts';

/** One that finds nothing of what it needs. */
function create(): EbpfDataplane {
  const commands = new FakeXtables();
  return new EbpfDataplane({
    host: {} as Netlink,
    conntrack: { deleteOf: () => Promise.resolve(0) },
    openMonitor: () => {
      throw new Error('no monitor');
    },
    place: { dir: '/proc/nowhere/tortie', objects: '/proc/nowhere' },
    nodeName: 'here',
    readSysctl: () => undefined,
    commands,
    variants: new VariantChoice(commands, silentLogger),
    hasIpv6: () => false,
    clock: new FakeClock({ sleepsPass: true }),
    log: silentLogger,
  });
}

test('a message that can not be understood is said, and what comes behind it is heard', async () => {
  const dataplane = create();
  dataplane.onUpdate({ type: 'configUpdate', config: TEST_CONFIG });
  dataplane.onUpdate({ type: 'configUpdate', config: { ...TEST_CONFIG, uplinkPattern: '(' } });
  dataplane.onUpdate({
    type: 'workloadEndpointUpdate',
    id: 'k8s/default/web/eth0',
    endpoint: {
      ifaceName: 'cali1',
      mac: '0a:00:00:00:00:01',
      ipv4Nets: ['10.65.0.1/32'],
      ipv6Nets: [],
      allowedSourcePrefixes: [],
      tiers: [],
      profiles: [],
    },
  });
  const { failed } = await dataplane.apply();
  expect(failed.map(({ object }) => object)).toEqual([
    'message configUpdate',
    'BPF programs',
    'endpoint k8s/default/web/eth0',
  ]);
});
