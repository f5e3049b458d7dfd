import 'reflect-metadata/lite';
import { Container } from 'inversify';
import { agentModule } from './agent.module.ts';
import type { BootstrapSettings } from './config/bootstrap.ts';
import { openDatastore } from './datastore.ts';
import { createLog } from './log.ts';
import { ebpfModule } from '#dataplanes/ebpf/ebpf.module.ts';
import { iptablesModule } from '#dataplanes/iptables/iptables.module.ts';
import { sharedModule } from '#dataplanes/shared/shared.module.ts';

/** The parts of one agent. What must be awaited is opened here, before anything is bound. */
export async function createAgentContainer(settings: BootstrapSettings): Promise<Container> {
  const log = createLog(settings.nodeName);
  const datastore = await openDatastore(settings.datastore, log);
  const container = new Container({ defaultScope: 'Singleton' });
  container.load(agentModule(settings, log, datastore), sharedModule, iptablesModule, ebpfModule);
  return container;
}
