import { containsIp, parseCidr, parseIp, type Family, type Ip } from '#api/cidr.ts';
import { messageOf } from '#api/errors.ts';
import type { AddressAllocation } from './allocations.ts';
import type { BlockOwner } from './block.ts';
import type { FactsSource } from './facts.ts';
import type { AutoAssignRequest } from './ipam.ts';
import type { Ledger } from './ledger.ts';
import {
  hasRestrictedPool,
  openPools,
  poolOf,
  selectPools,
  unreserved,
  type IpamFacts,
  type PoolRequest,
} from './pools.ts';
import { poolRequest } from './requests.ts';
import type { WriteBehind } from './write-behind.ts';

/** What `ReserveGifts` works with. */
export interface ReserveGiftsDeps {
  readonly facts: FactsSource;
  readonly ledger: Ledger;
  readonly writeBehind: WriteBehind;
  readonly reserveSize: number;
  readonly journalPath: string;
  readonly log: (level: 'warn' | 'error', message: string) => void;
}

/** Gives addresses of the warm reserve: a line in the journal, and no datastore call. */
export class ReserveGifts {
  readonly #deps: ReserveGiftsDeps;

  constructor(deps: ReserveGiftsDeps) {
    this.#deps = deps;
  }

  /** One address per family, at once; undefined if the reserve can't serve the whole request. */
  take(families: readonly Family[], request: AutoAssignRequest, owner: BlockOwner): readonly string[] | undefined {
    const facts = this.#deps.facts.current();
    const chosen = families.map((family) => facts && this.#reserved(facts, family, request));
    return chosen.every((allocation) => allocation !== undefined) && this.#give(chosen, owner)
      ? chosen.map(({ address }) => address)
      : undefined;
  }

  /** Exactly this address; undefined if it is not in the reserve, or its pool gives none. */
  takeExact(ip: Ip, owner: BlockOwner, facts: IpamFacts): string | undefined {
    const reserved = this.#deps.ledger.reserve().find(({ address }) => address === ip.text);
    const isGiven = reserved !== undefined && poolOf(facts, ip)?.closed === undefined && this.#give([reserved], owner);
    return isGiven ? ip.text : undefined;
  }

  /** Any address that the request's pools allow, when the datastore has none left; undefined if the reserve has none either. */
  takeLast(family: Family, request: PoolRequest, owner: BlockOwner, facts: IpamFacts): string | undefined {
    const pools = selectPools(facts, family, request);
    const reserved = this.#deps.ledger.reserve().find(({ address, cidr, ordinal }) => {
      const ip = parseIp(address);
      return pools.some((pool) => containsIp(pool.cidr, ip)) && unreserved(facts, parseCidr(cidr))(ordinal);
    });
    return reserved !== undefined && this.#give([reserved], owner) ? reserved.address : undefined;
  }

  #reserved(facts: IpamFacts, family: Family, request: AutoAssignRequest): AddressAllocation | undefined {
    const { requested, namespace } = poolRequest(request, family);
    if ((requested?.length ?? 0) > 0 || hasRestrictedPool(facts, family, namespace)) {
      return undefined;
    }
    const pools = openPools(facts);
    return this.#deps.ledger.reserve().find(({ address, cidr, ordinal }) => {
      const block = parseCidr(cidr);
      const pool = block.family === family ? poolOf(facts, parseIp(address)) : undefined;
      return pool !== undefined && pools.includes(pool) && unreserved(facts, block)(ordinal);
    });
  }

  /** False if the journal can't be written: then the address is not given, and the request goes the awaited way. */
  #give(reserved: readonly AddressAllocation[], owner: BlockOwner): boolean {
    const { ledger, writeBehind, reserveSize, journalPath, log } = this.#deps;
    try {
      ledger.give(reserved, owner);
    } catch (error) {
      log('error', `journal ${journalPath}: ${messageOf(error)}; addresses are assigned the slow way`);
      return false;
    }
    const used = new Set(reserved.map(({ cidr }) => parseCidr(cidr).family));
    const left = [...used].map(
      (family) => ledger.reserve().filter(({ cidr }) => parseCidr(cidr).family === family).length,
    );
    writeBehind.request({ now: Math.min(...left) <= reserveSize / 2 });
    return true;
  }
}
