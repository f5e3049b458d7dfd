import { familyOf } from '#api/cidr.ts';
import ipaddr from 'ipaddr.js';
import type { DataplaneConfig } from '../../messages.ts';
import type { FailsafePort } from '../../policy.ts';
import { FailsafeKey4, FailsafeKey6, flowConstants } from '../bpf-types.gen.ts';
import { type ElementMap, orFull } from '../full-map.ts';
import { u32Key } from '../keys.ts';

const protocols = { tcp: 6, udp: 17, sctp: 132 } as const satisfies Record<FailsafePort['protocol'], number>;
const codecs = { 4: FailsafeKey4, 6: FailsafeKey6 } as const;

type FailsafeMap = Pick<ElementMap, 'set' | 'delete' | 'shape'>;

/** Ports that stay open whatever policy says, in `tortie_failsafe4` and `6`. */
export class Failsafes {
  readonly #maps: Readonly<Record<4 | 6, FailsafeMap>>;
  /** What is in the maps, by family and key. */
  readonly #inForce = new Map<string, { readonly family: 4 | 6; readonly key: Uint8Array }>();

  constructor(maps: Readonly<Record<4 | 6, FailsafeMap>>) {
    this.#maps = maps;
  }

  /** First what is new, then what goes: no port that stays is closed in between. Throws `BPF_MAP_FULL` or what the maps say; call it again. */
  set({ failsafeInbound, failsafeOutbound }: Pick<DataplaneConfig, 'failsafeInbound' | 'failsafeOutbound'>): void {
    const { failsafeIn, failsafeOut } = flowConstants;
    const wanted = new Map<string, { family: 4 | 6; key: Uint8Array }>();
    for (const [direction, ports] of [
      [failsafeIn, failsafeInbound],
      [failsafeOut, failsafeOutbound],
    ] as const) {
      for (const port of ports) {
        for (const element of elementsOf(direction, port)) wanted.set(nameOf(element), element);
      }
    }
    for (const [name, element] of wanted) {
      if (this.#inForce.has(name)) continue;
      const map = this.#maps[element.family];
      orFull(map, () => map.set(element.key, u32Key(1)), 'some failsafe ports are not open');
      this.#inForce.set(name, element);
    }
    for (const [name, { family, key }] of this.#inForce) {
      if (wanted.has(name)) continue;
      this.#maps[family].delete(key);
      this.#inForce.delete(name);
    }
  }
}

const nameOf = ({ family, key }: { readonly family: 4 | 6; readonly key: Uint8Array }): string =>
  `${family} ${key.join(' ')}`;

/** Without a network: any other end, of both families. */
function elementsOf(direction: number, { protocol, port, net }: FailsafePort): { family: 4 | 6; key: Uint8Array }[] {
  const families = net === undefined ? ([4, 6] as const) : [familyOf(net)];
  return families.map((family) => {
    const [address, length] = ipaddr.parseCIDR(net ?? (family === 4 ? '0.0.0.0/0' : '::/0'));
    // LPM keys compare no more bits than they say.
    const key = codecs[family].encode({
      prefixLen: flowConstants.failsafeKeyFixedBits + length,
      direction,
      protocol: protocols[protocol],
      port,
      address: Uint8Array.from(address.toByteArray()),
    });
    return { family, key };
  });
}
