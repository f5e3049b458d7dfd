import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { ContainerModule, type ServiceIdentifier } from 'inversify';
import { Clock } from '#api/clock.ts';
import { openMonitor } from '#native/monitor.ts';
import { DataplaneFactory } from '../contract.ts';
import { Logger } from '../logger.ts';
import { HostNetlink } from '../shared/services.ts';
import { mapShapes } from './bpf-types.gen.ts';
import { EbpfDataplane } from './ebpf.ts';

/** The directory for pins (`--bpffs`); the agent binds it. */
export const BpffsDir: ServiceIdentifier<string> = Symbol.for('BpffsDir');

/** Where the programs are, seen from dist/lib/tortie.js and from the source tree. */
const places = ['../bpf/pod.bpf.o', '../../dist/bpf/pod.bpf.o'].map((place) =>
  fileURLToPath(new URL(place, import.meta.url)),
);

/** The eBPF dataplane's factory. Needs HostNetlink, Clock, Logger and BpffsDir from the agent. */
export const ebpfModule = new ContainerModule(({ bind }) => {
  bind(DataplaneFactory).toResolvedValue(
    (host, dir: string, clock: Clock, log: Logger): DataplaneFactory => ({
      kind: 'ebpf',
      create: () =>
        new EbpfDataplane({
          host,
          openMonitor: () => openMonitor(['link', 'tc']),
          place: {
            dir,
            // None there: the probe names the first, where it is once installed.
            elfPath: places.find((place) => existsSync(place)) ?? places[0] ?? '',
            sizes: { devices: mapShapes.tortie_devices.maxEntries, sources: mapShapes.tortie_sources.maxEntries },
          },
          clock,
          log,
        }),
    }),
    [HostNetlink, BpffsDir, Clock, Logger],
  );
});
