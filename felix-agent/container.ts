import 'reflect-metadata/lite';
import { Container } from 'inversify';
import { DataplaneFactory, type Programmer } from '#dataplanes/contract.ts';
import { ebpfModule } from '#dataplanes/ebpf/ebpf.module.ts';
import { iptablesModule } from '#dataplanes/iptables/iptables.module.ts';
import { HostNetlink, HostNetworkId } from '#dataplanes/shared/services.ts';
import { sharedModule } from '#dataplanes/shared/shared.module.ts';
import type { Netlink } from '#native/types.ts';
import { AgentId, type Agent } from './agent.ts';
import { agentModule } from './agent.module.ts';
import type { BootstrapSettings, NodeSettings } from './config/bootstrap.ts';
import { openDatastore } from './datastore.ts';
import type { Log } from './log.ts';
import { nodeModule } from './node.module.ts';

/** One agent, all parts made. What must be awaited is opened here, before anything is bound. */
export async function createAgent(settings: BootstrapSettings, log: Log): Promise<Agent> {
  const opened = await openDatastore(settings.datastore, log);
  try {
    const container = nodeContainer(settings, log);
    container.load(agentModule(settings, log, opened));
    return container.get(AgentId);
  } catch (error) {
    await opened.datastore[Symbol.asyncDispose](); // Its watches would keep a process alive that does nothing.
    throw error;
  }
}

/** What removes every trace from a node: both dataplanes and what they share, without a datastore. */
export function cleanupParts(
  settings: NodeSettings,
  log: Log,
): { readonly host: Netlink; readonly programmers: readonly Programmer[] } & AsyncDisposable {
  const container = nodeContainer(settings, log);
  const host = container.get(HostNetlink);
  const programmers = [
    ...container.getAll(DataplaneFactory).map((factory): Programmer => factory.create()),
    container.get(HostNetworkId),
  ];
  return {
    host,
    programmers,
    [Symbol.asyncDispose]: async () => {
      for (const programmer of programmers) await programmer[Symbol.asyncDispose]();
      host[Symbol.dispose]();
    },
  };
}

/** One directory and one line here for each dataplane. */
function nodeContainer(settings: NodeSettings, log: Log): Container {
  const container = new Container({ defaultScope: 'Singleton' });
  container.load(nodeModule(settings, log), sharedModule, iptablesModule, ebpfModule);
  return container;
}
