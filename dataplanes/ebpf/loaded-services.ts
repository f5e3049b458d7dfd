import type { IpText } from '../messages.ts';
import type { ServicesView, ServiceView } from '../observe.ts';
import type { ServiceTable } from './services/service-table.ts';

/** The Services of the maps that are loaded; none while none are. */
export class LoadedServices implements ServicesView {
  readonly #table: () => ServiceTable | undefined;

  constructor(table: () => ServiceTable | undefined) {
    this.#table = table;
  }

  get figures(): ServicesView['figures'] {
    return this.#table()?.count ?? { services: 0, limited: 0 };
  }

  list(): readonly ServiceView[] {
    return this.#table()?.list() ?? [];
  }

  find(address: IpText, port: number, protocol: number): ReturnType<ServicesView['find']> {
    const found = this.#table()?.backendsOf(address, port, protocol);
    if (found === undefined) return undefined;
    const { service, backends } = found;
    return { ...(service === undefined ? {} : { service }), backends };
  }
}
