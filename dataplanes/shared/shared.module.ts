import { readFileSync } from 'node:fs';
import { ContainerModule } from 'inversify';
import { Clock } from '#api/clock.ts';
import { CommandRunner } from '#native/command-runner.ts';
import { openConntrack } from '#native/conntrack.ts';
import { openIpset } from '#native/ipset.ts';
import { openMonitor } from '#native/monitor.ts';
import { writeSysctls } from '#native/netns.ts';
import { Logger } from '../logger.ts';
import { VariantChoice } from '../netfilter/variant-choice.ts';
import { HostNetwork } from './host-network.ts';
import type { SysctlPort } from './host-sysctls.ts';
import {
  HostConntrack,
  HostIpset,
  HostMonitor,
  HostNetlink,
  HostNetworkId,
  HostSysctlMemory,
  HostSysctls,
  VariantChoiceId,
} from './services.ts';

/** The sysctls of the namespace in which the process runs: /proc/sys/net shows the reader's own. */
const ownSysctls: SysctlPort = {
  write: (sysctls) => writeSysctls(sysctls),
  read: (path) => {
    try {
      return readFileSync(`/proc/sys/${path}`, 'utf8').trim();
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
      throw error;
    }
  },
};

/** The host network and what it shares with the dataplanes. The agent binds HostNetlink, HostSysctlMemory, Clock, CommandRunner and Logger. */
export const sharedModule = new ContainerModule(({ bind }) => {
  bind(HostSysctls).toConstantValue(ownSysctls);
  bind(HostIpset)
    .toResolvedValue(() => openIpset())
    .inSingletonScope();
  bind(HostConntrack)
    .toResolvedValue(() => openConntrack())
    .inSingletonScope();
  bind(HostMonitor).toConstantValue(() => openMonitor(['link', 'addr4', 'addr6', 'route4', 'route6', 'neigh']));
  bind(VariantChoiceId)
    .toResolvedValue(
      (commands: CommandRunner, log: Logger) => new VariantChoice(commands, log),
      [CommandRunner, Logger],
    )
    .inSingletonScope();
  bind(HostNetworkId)
    .toResolvedValue(
      (host, openMonitor, sysctls, sysctlMemory, sets, commands: CommandRunner, variants, clock: Clock, log: Logger) =>
        new HostNetwork({ host, openMonitor, sysctls, sysctlMemory, sets, commands, variants, clock, log }),
      [
        HostNetlink,
        HostMonitor,
        HostSysctls,
        HostSysctlMemory,
        HostIpset,
        CommandRunner,
        VariantChoiceId,
        Clock,
        Logger,
      ],
    )
    .inSingletonScope();
});
