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
    this.#shaped = new Set(qdiscs.filter(isShaping).map(({ linkIndex }) => linkIndex));
    return [...before.symmetricDifference(this.#shaped)];
  }
}

/** clsact holds programs only; noqueue and mq (which stands for the queues of a device that has several) are what devices have by themselves. */
const isShaping = ({ kind, isRoot }: Qdisc): boolean =>
  kind === 'ingress' || (isRoot && kind !== 'noqueue' && kind !== 'mq');
