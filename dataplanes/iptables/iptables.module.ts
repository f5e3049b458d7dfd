import { ContainerModule } from 'inversify';
import { Clock } from '#api/clock.ts';
import { CommandRunner } from '#native/command-runner.ts';
import { DataplaneFactory } from '../contract.ts';
import { Logger } from '../logger.ts';
import { HostIpset, HostSysctls, VariantChoiceId } from '../shared/services.ts';
import { IptablesDataplane } from './iptables.ts';

/** The iptables dataplane's factory. Needs `sharedModule`, and Clock, CommandRunner and Logger from the agent. */
export const iptablesModule = new ContainerModule(({ bind }) => {
  bind(DataplaneFactory).toResolvedValue(
    (sets, sysctls, variants, commands: CommandRunner, clock: Clock, log: Logger): DataplaneFactory => ({
      kind: 'iptables',
      create: () =>
        new IptablesDataplane({
          sets,
          variants,
          commands,
          clock,
          log,
          hasIpv6: () => sysctls.read('net/ipv6/conf/all/forwarding') !== undefined,
        }),
    }),
    [HostIpset, HostSysctls, VariantChoiceId, CommandRunner, Clock, Logger],
  );
});
