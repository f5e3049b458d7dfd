import 'reflect-metadata';
import { expect, test } from '@jest/globals';
import { Container } from 'inversify';
import { Clock } from '#api/clock.ts';
import { FakeClock } from '#api/fake-clock.ts';
import { CommandRunner } from '#native/command-runner.ts';
import { DataplaneFactory } from '../contract.ts';
import { Logger } from '../logger.ts';
import { FakeSets } from '../netfilter/fake-sets.ts';
import { FakeXtables } from '../netfilter/fake-xtables.ts';
import { FakeNetlink } from '../shared/fake-netlink.ts';
import { FakeSysctlMemory } from '../shared/fake-sysctls.ts';
import { HostNetwork } from '../shared/host-network.ts';
import { HostIpset, HostNetlink, HostNetworkId, HostSysctlMemory } from '../shared/services.ts';
import { sharedModule } from '../shared/shared.module.ts';
import { silentLogger } from '../silent-logger.ts';
import { iptablesModule } from './iptables.module.ts';

test('the modules make a host network and a factory of the iptables dataplane', () => {
  const container = new Container();
  container.bind(Clock).toConstantValue(new FakeClock());
  container.bind(Logger).toConstantValue(silentLogger);
  container.bind(CommandRunner).toConstantValue(new FakeXtables());
  container.bind(HostNetlink).toConstantValue(new FakeNetlink());
  container.bind(HostSysctlMemory).toConstantValue(new FakeSysctlMemory());
  container.load(sharedModule, iptablesModule);
  container
    .rebind(HostIpset)
    .toConstantValue(Object.assign(new FakeSets(), { flush: () => Promise.resolve(), [Symbol.dispose]: () => {} }));
  expect(container.get(HostNetworkId)).toBeInstanceOf(HostNetwork);
  const factories = container.getAll(DataplaneFactory);
  expect(factories.map(({ kind }) => kind)).toEqual(['iptables']);
  expect(factories[0]?.create().kind).toBe('iptables');
});
