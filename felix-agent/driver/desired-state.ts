import type { DataplaneUpdate, EndpointId } from '#dataplanes/messages.ts';

/** The last message per object, so that a programmer that joins late can be told everything. */
export class DesiredState {
  readonly #messages = new Map<string, DataplaneUpdate>();
  readonly #endpoints = new Set<EndpointId>();
  #inSync = false;

  record(update: DataplaneUpdate): void {
    switch (update.type) {
      case 'configUpdate':
        this.#messages.set('config', update);
        break;
      case 'hostUpdate':
        this.#messages.set(`host ${update.node}`, update);
        break;
      case 'hostRemove':
        this.#messages.delete(`host ${update.node}`);
        break;
      case 'poolUpdate':
        this.#messages.set(`pool ${update.id}`, update);
        break;
      case 'poolRemove':
        this.#messages.delete(`pool ${update.id}`);
        break;
      case 'routeUpdate':
        this.#messages.set(`route ${update.route.dst}`, update);
        break;
      case 'routeRemove':
        this.#messages.delete(`route ${update.dst}`);
        break;
      case 'workloadEndpointUpdate':
        this.#endpoints.add(update.id);
        this.#messages.set(`endpoint ${update.id}`, update);
        break;
      case 'workloadEndpointRemove':
        this.#endpoints.delete(update.id);
        this.#messages.delete(`endpoint ${update.id}`);
        break;
      case 'inSync':
        this.#inSync = true;
        break;
    }
  }

  endpointIds(): readonly EndpointId[] {
    return [...this.#endpoints];
  }

  /** Everything, in the order calc sends it: configuration first, endpoints last, then `inSync` if it has been said. */
  replay(): readonly DataplaneUpdate[] {
    const order = ['config', 'host', 'pool', 'route', 'endpoint'];
    const byOrder = order.flatMap((prefix) =>
      [...this.#messages].filter(([key]) => key === prefix || key.startsWith(`${prefix} `)).map(([, update]) => update),
    );
    return this.#inSync ? [...byOrder, { type: 'inSync' }] : byOrder;
  }
}
