import { addressCount, ipAt, tryParseCidr, withoutPrefix } from '#api/cidr.ts';
import type { CidrText, DataplaneUpdate, IpText } from '../messages.ts';

/** A block has at most so many addresses (IPAM: /20, /116); what is larger was made by others, who may use it otherwise. */
const largest = 4096;

/** Addresses that only pods of this node can have: those of its own blocks, without the ones that other nodes have borrowed. */
export class LocalBlocks {
  readonly #blocks = new Set<CidrText>();
  readonly #borrowed = new Set<IpText>();

  /** Records an update; what isn't about blocks is passed over. */
  record(update: DataplaneUpdate): void {
    if (update.type === 'routeRemove') this.#forget(update.dst);
    if (update.type !== 'routeUpdate') return;
    const { dst, type } = update.route;
    this.#forget(dst);
    if (type === 'localBlock') this.#blocks.add(dst);
    if (type === 'borrowed') this.#borrowed.add(withoutPrefix(dst));
  }

  /** All of them, but for those of the node itself (its tunnels' have theirs from a block). */
  addresses(own: ReadonlySet<IpText>): readonly IpText[] {
    const addresses: IpText[] = [];
    for (const dst of this.#blocks) {
      const block = tryParseCidr(dst);
      // Fewer host bits than those of `largest`: the count of a wide network is no safe number.
      if (block === undefined || addressCount(block) > largest) continue;
      for (let ordinal = 0; ordinal < addressCount(block); ordinal += 1) {
        const { text } = ipAt(block, ordinal);
        if (!own.has(text) && !this.#borrowed.has(text)) addresses.push(text);
      }
    }
    return addresses;
  }

  #forget(dst: CidrText): void {
    this.#blocks.delete(dst);
    this.#borrowed.delete(withoutPrefix(dst));
  }
}
