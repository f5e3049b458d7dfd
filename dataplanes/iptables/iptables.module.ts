import { ContainerModule } from 'inversify';
import { Clock } from '#api/clock.ts';
import { CommandRunner } from '#native/command-runner.ts';
import { openMonitor } from '#native/monitor.ts';
import { DataplaneFactory } from '../contract.ts';
import { Logger } from '../logger.ts';
import { conntrackPort, NetfilterFlows } from '../netfilter/conntrack-flows.ts';
import { HostConntrack, HostIpset, HostNetlink, HostSysctls, VariantChoiceId } from '../shared/services.ts';
import { IptablesDataplane } from './iptables.ts';

/** The iptables dataplane's factory. Needs `sharedModule`, and HostNetlink, Clock, CommandRunner and Logger from the agent. */
export const iptablesModule = new ContainerModule(({ bind }) => {
  bind(DataplaneFactory).toResolvedValue(
    (
      host,
      sets,
      conntrack,
      sysctls,
      variants,
      commands: CommandRunner,
      clock: Clock,
      log: Logger,
    ): DataplaneFactory => ({
      kind: 'iptables',
      create: () =>
        new IptablesDataplane({
          host,
          sets,
          conntrack,
          openMonitor: () => openMonitor(['link', 'addr4', 'addr6']),
          flows: new NetfilterFlows(conntrackPort((path) => sysctls.read(path))),
          variants,
          commands,
          clock,
          log,
          hasIpv6: () => sysctls.read('net/ipv6/conf/all/forwarding') !== undefined,
        }),
    }),
    [HostNetlink, HostIpset, HostConntrack, HostSysctls, VariantChoiceId, CommandRunner, Clock, Logger],
  );
});
