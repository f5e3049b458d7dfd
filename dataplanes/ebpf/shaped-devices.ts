import type { Netlink, Qdisc } from '#native/types.ts';

/**
 * Devices with qdiscs of their own, whoever put them there (the bandwidth plugin): what redirects past the stack would pass by those, and limits would
 * not hold.
 */
export class ShapedDevices {
  readonly #host: Pick<Netlink, 'qdiscs'>;
  #shaped: ReadonlySet<number> = new Set();
  #mustRead = true;

  constructor(host: Pick<Netlink, 'qdiscs'>) {
    this.#host = host;
  }

  /** Something may be different now. */
  suspect(): void {
    this.#mustRead = true;
  }

  /** A qdisc has come or gone. */
  follow(qdisc: Qdisc): void {
    if (isShaping(qdisc)) this.#mustRead = true;
  }

  has(ifindex: number): boolean {
    return this.#shaped.has(ifindex);
  }

  /** Looks, if there is reason to, and returns the ifindexes of which the answer has changed. Throws NetlinkFailure; then it looks again. */
  async look(): Promise<readonly number[]> {
    if (!this.#mustRead) return [];
    this.#mustRead = false;
    let qdiscs: readonly Qdisc[];
    try {
      qdiscs = await this.#host.qdiscs();
    } catch (error) {
      this.#mustRead = true;
      throw error;
    }
    const before = this.#shaped;
    const now = new Set(qdiscs.filter(isShaping).map(({ linkIndex }) => linkIndex));
    this.#shaped = now;
    return [...new Set([...before, ...now])].filter((ifindex) => before.has(ifindex) !== now.has(ifindex));
  }
}

/** clsact holds programs only; noqueue and mq (which stands for the queues of a device that has several) are what devices have by themselves. */
const isShaping = ({ kind, isRoot }: Qdisc): boolean =>
  kind === 'ingress' || (isRoot && kind !== 'noqueue' && kind !== 'mq');
