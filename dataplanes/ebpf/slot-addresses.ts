import type { MappedArray } from '#native/bpf.ts';
import type { CidrText } from '../messages.ts';
import { PodSlot, SourceKey } from './bpf-types.gen.ts';
import { sourceKey } from './keys.ts';

/**
 * The addresses that slots name as their device's: by them programs know the ends of established flows, in both directions, without asking for
 * sources and next hops. An address is in the slot of whoever is the way to it, and in no other: it is taken out at once when that changes,
 * before the next hop is another and long before the slot is. A slot has room for one of each family; packets of a pod's other addresses
 * take the long way.
 */
export class SlotAddresses {
  readonly #pods: Pick<MappedArray, 'store32'>;
  /** By slot and family, all addresses whose way it is; the first is the one that it names. */
  readonly #nets = new Map<string, CidrText[]>();

  /** `pods`: the memory of `tortie_pods`. */
  constructor(pods: Pick<MappedArray, 'store32'>) {
    this.#pods = pods;
  }

  /** The way to this network is another slot from now on (undefined: none of a pod's). What isn't one address isn't named. */
  move(net: CidrText, before: number | undefined, after: number | undefined): void {
    if (before === after || !/\/(?:32|128)$/.test(net) || net.includes(':') !== net.endsWith('/128')) return;
    if (before !== undefined) this.#take(net, before);
    if (after !== undefined) this.#give(net, after);
  }

  #give(net: CidrText, slot: number): void {
    const key = keyOf(net, slot);
    const nets = this.#nets.get(key) ?? [];
    this.#nets.set(key, nets);
    nets.push(net);
    if (nets.length === 1) this.#store(slot, net, wordsOf(net));
  }

  #take(net: CidrText, slot: number): void {
    const key = keyOf(net, slot);
    const nets = this.#nets.get(key) ?? [];
    const at = nets.indexOf(net);
    if (at < 0) return;
    nets.splice(at, 1);
    const [next] = nets;
    if (next === undefined) this.#nets.delete(key);
    if (at > 0) return;
    this.#store(
      slot,
      net,
      wordsOf(net).map(() => 0),
    );
    if (next !== undefined) this.#store(slot, next, wordsOf(next));
  }

  #store(slot: number, net: CidrText, words: readonly number[]): void {
    const { address4, address6 } = PodSlot.offsets;
    const place = net.includes(':') ? address6 : address4;
    for (const [i, word] of words.entries()) this.#pods.store32(slot, place + i * 4, word);
  }
}

const keyOf = (net: CidrText, slot: number): string => `${slot} ${net.includes(':') ? 6 : 4}`;

/** An address as it stands in a packet, in the words of a little-endian machine. */
function wordsOf(net: CidrText): number[] {
  const key = sourceKey(0, net);
  const view = new DataView(key.buffer, key.byteOffset + SourceKey.offsets.address);
  return Array.from({ length: net.includes(':') ? 4 : 1 }, (_, i) => view.getUint32(i * 4, true));
}
