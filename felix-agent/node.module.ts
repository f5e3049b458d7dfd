import { ContainerModule } from 'inversify';
import { Clock, systemClock } from '#api/clock.ts';
import { BpffsDir, DataplaneNodeName } from '#dataplanes/ebpf/ebpf.module.ts';
import { Logger } from '#dataplanes/logger.ts';
import { HostNetlink, HostSysctlMemory } from '#dataplanes/shared/services.ts';
import { CommandRunner, systemCommandRunner } from '#native/command-runner.ts';
import { openNetlink } from '#native/netlink.ts';
import type { NodeSettings } from './config/bootstrap.ts';
import { HostSysctlFile } from './host-sysctl-file.ts';
import { dataplaneLogger, Log } from './log.ts';
import { MeteredCommands } from './metrics/metered-commands.ts';
import { Metrics } from './metrics/metrics.ts';
import { MetricsId } from './metrics/services.ts';

/** The machine, as every part sees it: time, programs, the node's network namespace. */
export function nodeModule(settings: NodeSettings, log: Log): ContainerModule {
  return new ContainerModule(({ bind }) => {
    bind(Clock).toConstantValue(systemClock);
    const metrics = new Metrics();
    bind(MetricsId).toConstantValue(metrics);
    bind(CommandRunner).toConstantValue(new MeteredCommands(systemCommandRunner, metrics));
    bind(Log).toConstantValue(log);
    bind(Logger).toConstantValue(dataplaneLogger(log));
    bind(BpffsDir).toConstantValue(settings.bpffs);
    bind(DataplaneNodeName).toConstantValue(settings.nodeName);
    bind(HostSysctlMemory).toConstantValue(new HostSysctlFile(settings.stateDir));
    bind(HostNetlink).toResolvedValue(() => openNetlink());
  });
}
