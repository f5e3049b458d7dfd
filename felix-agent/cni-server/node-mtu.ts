import { withoutPrefix } from '#api/cidr.ts';
import type { Netlink } from '#native/types.ts';
import type { Log } from '../log.ts';
import type { ObjectStore } from '../store/object-store.ts';

/**
 * The MTU for pods: that of the device which has the node's address. Packets between nodes are not encapsulated, so nothing is taken off.
 * Read again whenever this Node's object changes; undefined (the kernel's default) while no device has the address.
 */
export class NodeMtu {
  readonly #host: Netlink;
  readonly #store: ObjectStore;
  readonly #nodeName: string;
  readonly #log: Log;
  #current: number | undefined;
  /** How often it was read: what an earlier reading answers late is out of date. */
  #readings = 0;

  constructor(host: Netlink, store: ObjectStore, nodeName: string, log: Log) {
    this.#host = host;
    this.#store = store;
    this.#nodeName = nodeName;
    this.#log = log;
  }

  get current(): number | undefined {
    return this.#current;
  }

  /** Never rejects: when the devices can't be read, the last value stays. */
  async refresh(): Promise<void> {
    const node = this.#store.of('Node').get({ name: this.#nodeName });
    const own = new Set(
      (node?.status.addresses ?? []).filter(({ type }) => type === 'InternalIP').map(({ address }) => address),
    );
    const reading = ++this.#readings;
    try {
      const addresses = await this.#host.addresses();
      if (reading !== this.#readings) return;
      const holder = addresses.find(({ address }) => own.has(withoutPrefix(address)));
      this.#current = holder === undefined ? undefined : this.#host.link(holder.linkIndex)?.mtu;
    } catch (error) {
      this.#log.warn({ err: error }, "could not read the node's MTU; keeping the last one");
    }
  }
}
