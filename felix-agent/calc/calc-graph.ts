import type { KindMap } from '#api/kinds.ts';
import type { DataplaneConfig, DataplaneUpdate, EndpointId, WorkloadDevice } from '#dataplanes/messages.ts';
import { BlockRoutes } from './block-routes.ts';
import { hostInfo } from './hosts.ts';
import { Pending } from './pending.ts';

/**
 * Turns objects into dataplane messages: pure, incremental, in memory. Inputs may come in any order, be repeated or be squashed; the
 * state reached depends only on the last value of each. `flush` returns what changed since the last one, in an order in which nothing
 * refers to what was not announced: configuration, hosts, pools, routes, endpoints; removals the other way round, before additions of
 * the same kind of thing where an address may move.
 */
export class CalcGraph {
  readonly #routes: BlockRoutes;
  readonly #hosts = new Pending<'hostUpdate' | 'hostRemove'>();
  readonly #pools = new Pending<'poolUpdate' | 'poolRemove'>();
  readonly #endpoints = new Pending<'workloadEndpointUpdate' | 'workloadEndpointRemove'>();
  #config: DataplaneConfig | undefined;
  #sentConfig = '';
  #inSync: 'no' | 'due' | 'sent' = 'no';

  constructor(nodeName: string) {
    this.#routes = new BlockRoutes(nodeName);
  }

  onConfig(config: DataplaneConfig): void {
    this.#config = config;
  }

  onNode(name: string, node: KindMap['Node'] | undefined): void {
    const host = node === undefined ? undefined : hostInfo(node);
    this.#routes.onHost(name, host);
    this.#hosts.set(name, host === undefined ? undefined : { type: 'hostUpdate', node: name, host }, {
      type: 'hostRemove',
      node: name,
    });
  }

  onPool(name: string, pool: KindMap['IPPool'] | undefined): void {
    this.#pools.set(
      name,
      pool === undefined
        ? undefined
        : { type: 'poolUpdate', id: name, pool: { cidr: pool.spec.cidr, masquerade: pool.spec.natOutgoing } },
      { type: 'poolRemove', id: name },
    );
  }

  onBlock(name: string, block: KindMap['IPAMBlock'] | undefined): void {
    this.#routes.onBlock(name, block);
  }

  /** One of this node's endpoints. */
  onEndpoint(id: EndpointId, device: WorkloadDevice | undefined): void {
    const endpoint = device === undefined ? undefined : { ...device, tiers: [], profiles: [] };
    this.#endpoints.set(id, endpoint === undefined ? undefined : { type: 'workloadEndpointUpdate', id, endpoint }, {
      type: 'workloadEndpointRemove',
      id,
    });
  }

  /** Every input has been given once: what isn't known by now does not exist. */
  onInSync(): void {
    if (this.#inSync === 'no') this.#inSync = 'due';
  }

  flush(): readonly DataplaneUpdate[] {
    const updates: DataplaneUpdate[] = [];
    const configText = JSON.stringify(this.#config);
    if (this.#config !== undefined && configText !== this.#sentConfig) {
      this.#sentConfig = configText;
      updates.push({ type: 'configUpdate', config: this.#config });
    }
    const endpoints = this.#endpoints.take();
    const routes = this.#routes.take();
    const pools = this.#pools.take();
    const hosts = this.#hosts.take();
    updates.push(...endpoints.removals, ...routes.removals, ...pools.removals, ...hosts.removals);
    updates.push(...hosts.additions, ...pools.additions, ...routes.additions, ...endpoints.additions);
    if (this.#inSync === 'due') {
      this.#inSync = 'sent';
      updates.push({ type: 'inSync' });
    }
    return updates;
  }
}
