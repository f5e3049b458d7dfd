import type { Link, Netlink, NetlinkEvent } from '#native/types.ts';

/**
 * Endpoints' devices by name: asked for once (0.1 ms of the kernel's and of ours), and again after an event about one. What an event hasn't told yet may
 * be out of date, as an answer is a moment later: who acts on an ifindex that is gone fails, and the event that comes makes it try again.
 */
export class PodLinks {
  readonly #host: Pick<Netlink, 'link'>;
  readonly #byName = new Map<string, Link>();
  readonly #names = new Map<number, string>();

  constructor(host: Pick<Netlink, 'link'>) {
    this.#host = host;
  }

  /** The device of this name; undefined: there is none. Throws what the kernel says. */
  find(name: string): Link | undefined {
    const known = this.#byName.get(name);
    if (known !== undefined) return known;
    const link = this.#host.link(name);
    if (link === undefined) return undefined;
    this.#byName.set(name, link);
    this.#names.set(link.index, name);
    return link;
  }

  /** What it tells of is asked for anew: under its name, and under the one that the device had. */
  follow(event: NetlinkEvent): void {
    if (event.type === 'overrun') this.clear();
    if (event.type !== 'link.new' && event.type !== 'link.del') return;
    this.forget(event.link.name);
    const name = this.#names.get(event.link.index);
    if (name !== undefined) this.forget(name);
  }

  forget(name: string): void {
    const link = this.#byName.get(name);
    if (link === undefined) return;
    this.#byName.delete(name);
    this.#names.delete(link.index);
  }

  clear(): void {
    this.#byName.clear();
    this.#names.clear();
  }
}
