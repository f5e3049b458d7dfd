import type { Clock } from '#api/clock.ts';
import type { KindMap } from '#api/kinds.ts';
import { blockName } from '#api/names.ts';
import type { Datastore } from '#datastore/datastore.ts';
import { isDatastoreError } from '#datastore/errors.ts';
import { collectCooled, type BlockSpec, type Cooling } from './block.ts';
import { withoutChallenge } from './challenge.ts';
import type { BlockClaims } from './claims.ts';
import { IpamError } from './ipam.ts';
import { maxTries } from './two-step-delete.ts';

export type IPAMBlock = KindMap['IPAMBlock'];

/**
 * A change to a block: what it found out, and the new spec if there is something to write. Pure, because it is applied again to the
 * newer block after a conflict.
 */
export type BlockEdit<T> = (spec: BlockSpec) => { readonly spec?: BlockSpec | undefined; readonly result: T };

/** Blocks, as the allocator needs them: straight from the datastore, or held in memory by the agent. */
export interface BlockStore {
  /** This node's confirmed blocks, both families; `fresh`: read now, not remembered. */
  own(options: { readonly fresh: boolean }): Promise<readonly BlockSpec[]>;
  /** Applies an edit to any block by compare-and-swap. Undefined: there is none (any more). Rejects when the outcome is unknown. */
  edit<T>(cidr: string, edit: BlockEdit<T>): Promise<{ readonly result: T } | undefined>;
  /** Reads the block again, if it is remembered. */
  refresh(cidr: string): Promise<void>;
  /** Tells of a block that this node has just claimed. */
  claimed(block: IPAMBlock): void;
}

/** ipCooldownSeconds at present. */
export type CooldownSeconds = () => number;

/** Reads a block that is not about to be deleted. */
export async function readBlock(datastore: Datastore, cidr: string): Promise<IPAMBlock | undefined> {
  const block = await datastore.get('IPAMBlock', { name: blockName(cidr) });
  return block === undefined || block.spec.deleted ? undefined : block;
}

/** The block now, as it was before the edits (`known`, if nobody else has written it since), and what each edit found out. */
interface WrittenEdits {
  readonly block: IPAMBlock;
  readonly base: IPAMBlock;
  readonly results: readonly unknown[];
}

/**
 * Applies edits in their order with one write, beginning with `known` if that is given, and with what is stored after a conflict.
 * Undefined: there is no such block. Addresses that have cooled down become free on the way. `writer` is the node that this process works
 * for, if any: whatever it writes also says that it is alive.
 */
export async function writeEdits(
  datastore: Datastore,
  cidr: string,
  known: IPAMBlock | undefined,
  edits: readonly BlockEdit<unknown>[],
  cooling: () => Cooling,
  writer?: string,
): Promise<WrittenEdits | undefined> {
  let block = known;
  for (let tries = 0; tries < maxTries; tries++) {
    block ??= await readBlock(datastore, cidr);
    if (block === undefined) {
      return undefined;
    }
    const results: unknown[] = [];
    const before = collectCooled(block.spec, cooling());
    let spec = before;
    for (const edit of edits) {
      const outcome = edit(spec);
      results.push(outcome.result);
      spec = outcome.spec ?? spec;
    }
    if (spec === before) {
      return { block, base: block, results };
    }
    try {
      const answered = writer === undefined ? block : withoutChallenge(block, writer);
      return { block: await datastore.update('IPAMBlock', { ...answered, spec }), base: block, results };
    } catch (error) {
      if (!isDatastoreError(error, 'conflict') && !isDatastoreError(error, 'not-found')) {
        throw error;
      }
      block = undefined;
    }
  }
  throw new IpamError('unavailable', `IPAMBlock ${cidr}: gave up after ${maxTries} conflicting writes by others`);
}

/** Blocks without memory: every call reads. */
export class DirectBlocks implements BlockStore {
  readonly #datastore: Datastore;
  readonly #claims: BlockClaims;
  readonly #clock: Clock;
  readonly #cooldownSeconds: CooldownSeconds;

  constructor(datastore: Datastore, claims: BlockClaims, clock: Clock, cooldownSeconds: CooldownSeconds) {
    this.#datastore = datastore;
    this.#claims = claims;
    this.#clock = clock;
    this.#cooldownSeconds = cooldownSeconds;
  }

  async own(): Promise<readonly BlockSpec[]> {
    return (await this.#claims.ownBlocks()).map((block) => collectCooled(block.spec, this.#cooling()));
  }

  async edit<T>(cidr: string, edit: BlockEdit<T>): Promise<{ readonly result: T } | undefined> {
    const cooling = () => this.#cooling();
    const written = await writeEdits(this.#datastore, cidr, undefined, [edit], cooling, this.#claims.nodeName);
    return written === undefined ? undefined : { result: written.results[0] as T };
  }

  async refresh(): Promise<void> {} // Nothing is remembered.

  claimed(): void {} // The next `own` reads it.

  #cooling(): Cooling {
    return { now: this.#clock.now(), cooldownSeconds: this.#cooldownSeconds() };
  }
}
