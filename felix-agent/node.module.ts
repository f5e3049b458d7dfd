import { ContainerModule } from 'inversify';
import { Clock, systemClock } from '#api/clock.ts';
import { BpffsDir } from '#dataplanes/ebpf/ebpf.module.ts';
import { Logger } from '#dataplanes/logger.ts';
import { HostNetlink, HostSysctlMemory } from '#dataplanes/shared/services.ts';
import { CommandRunner, systemCommandRunner } from '#native/command-runner.ts';
import { openNetlink } from '#native/netlink.ts';
import type { NodeSettings } from './config/bootstrap.ts';
import { HostSysctlFile } from './host-sysctl-file.ts';
import { dataplaneLogger, Log } from './log.ts';

/** The machine, as every part sees it: time, programs, the node's network namespace. */
export function nodeModule(settings: NodeSettings, log: Log): ContainerModule {
  return new ContainerModule(({ bind }) => {
    bind(Clock).toConstantValue(systemClock);
    bind(CommandRunner).toConstantValue(systemCommandRunner);
    bind(Log).toConstantValue(log);
    bind(Logger).toConstantValue(dataplaneLogger(log));
    bind(BpffsDir).toConstantValue(settings.bpffs);
    bind(HostSysctlMemory).toConstantValue(new HostSysctlFile(settings.stateDir));
    bind(HostNetlink).toResolvedValue(() => openNetlink());
  });
}
