import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { ContainerModule, type ServiceIdentifier } from 'inversify';
import { Clock } from '#api/clock.ts';
import { CommandRunner } from '#native/command-runner.ts';
import { openMonitor } from '#native/monitor.ts';
import { DataplaneFactory } from '../contract.ts';
import { Logger } from '../logger.ts';
import { HostConntrack, HostNetlink, HostSysctls, VariantChoiceId } from '../shared/services.ts';
import { EbpfDataplane } from './ebpf.ts';
import { objectFiles } from './programs.ts';

/** The directory for pins (`--bpffs`); the agent binds it. */
export const BpffsDir: ServiceIdentifier<string> = Symbol.for('BpffsDir');

/** The node's name, as calc says it; the agent binds it. */
export const DataplaneNodeName: ServiceIdentifier<string> = Symbol.for('DataplaneNodeName');

/** Where the objects are, seen from dist/lib/tortie.js and from the source tree. */
const places = ['../bpf', '../../dist/bpf'].map((place) => fileURLToPath(new URL(place, import.meta.url)));

/**
 * The eBPF dataplane's factory. Needs `sharedModule`, and HostNetlink, CommandRunner, Clock, Logger, BpffsDir and DataplaneNodeName from the
 * agent.
 */
export const ebpfModule = new ContainerModule(({ bind }) => {
  bind(DataplaneFactory).toResolvedValue(
    (
      host,
      conntrack,
      sysctls,
      variants,
      commands: CommandRunner,
      dir: string,
      nodeName: string,
      clock: Clock,
      log: Logger,
    ): DataplaneFactory => ({
      kind: 'ebpf',
      create: () =>
        new EbpfDataplane({
          host,
          conntrack,
          openMonitor: (groups) => openMonitor(groups),
          place: {
            dir,
            // None there: the probe names the first, where it is once installed.
            objects: places.find((place) => existsSync(join(place, objectFiles.filters))) ?? places[0] ?? '',
          },
          nodeName,
          commands,
          variants,
          hasIpv6: () => sysctls.read('net/ipv6/conf/all/forwarding') !== undefined,
          readSysctl: (path) => sysctls.read(path),
          clock,
          log,
        }),
    }),
    [
      HostNetlink,
      HostConntrack,
      HostSysctls,
      VariantChoiceId,
      CommandRunner,
      BpffsDir,
      DataplaneNodeName,
      Clock,
      Logger,
    ],
  );
});
