import type { Datastore } from '#datastore/datastore.ts';
import { addressesIn, missingIn } from './allocations.ts';
import type { BlockSpec, Cooling } from './block.ts';
import { collectCooled } from './block.ts';
import { writeEdits, type BlockEdit, type BlockStore, type IPAMBlock } from './block-store.ts';
import type { BlockClaims } from './claims.ts';

/**
 * Told when others have changed a block of this node: it is no longer this node's though this node did not give it up, or allocations are not there any
 * more. As it was last known, and as it was found (undefined: it is gone). Called before anything else can look at the block again.
 */
export type TakenListener = (before: BlockSpec, now: BlockSpec | undefined) => void;

interface Waiting {
  /** Undefined: only to be read again. */
  readonly edit: BlockEdit<unknown> | undefined;
  readonly resolve: (outcome: { readonly result: unknown } | undefined) => void;
  readonly reject: (error: unknown) => void;
}

/**
 * A node's own blocks in memory. Writes are group commits: what arrives while a block's write is under way goes into the next one, so
 * fifty parallel requests cost a few writes. Reads of a block run in the same queue as its writes: what is remembered never goes back in
 * time, and an address that was turned over can't reappear as free.
 */
export class CachedBlocks implements BlockStore {
  readonly #datastore: Datastore;
  readonly #claims: BlockClaims;
  readonly #direct: BlockStore;
  readonly #cooling: () => Cooling;
  readonly #onTaken: TakenListener;
  readonly #blocks = new Map<string, CachedBlock>();

  constructor(
    datastore: Datastore,
    claims: BlockClaims,
    direct: BlockStore,
    cooling: () => Cooling,
    onTaken: TakenListener,
  ) {
    this.#datastore = datastore;
    this.#claims = claims;
    this.#direct = direct;
    this.#cooling = cooling;
    this.#onTaken = onTaken;
  }

  /** The blocks as last written or read. */
  specs(): readonly BlockSpec[] {
    return [...this.#blocks.values()].map((block) => block.spec);
  }

  /** True if a write's outcome is unknown, so that some block may hold more than `specs` says. */
  isUnsure(): boolean {
    return [...this.#blocks.values()].some((block) => block.isStale);
  }

  /** The same, with what has cooled down as free. */
  collected(): readonly BlockSpec[] {
    return this.specs().map((spec) => collectCooled(spec, this.#cooling()));
  }

  async own({ fresh }: { readonly fresh: boolean }): Promise<readonly BlockSpec[]> {
    if (fresh) {
      for (const block of await this.#claims.ownBlocks()) {
        this.claimed(block);
      }
      await Promise.all([...this.#blocks.values()].map((block) => block.enqueue(undefined)));
    }
    return this.collected();
  }

  async edit<T>(cidr: string, edit: BlockEdit<T>): Promise<{ readonly result: T } | undefined> {
    const block = this.#blocks.get(cidr);
    return block === undefined
      ? this.#direct.edit(cidr, edit)
      : ((await block.enqueue(edit)) as { readonly result: T } | undefined);
  }

  claimed(block: IPAMBlock): void {
    const { cidr } = block.spec;
    // One that is held already is at least as new as what was read beside its queue, unless it was deleted and made anew.
    const before = this.#blocks.get(cidr);
    if (before?.uid !== block.metadata.uid) {
      const held: CachedBlock = new CachedBlock(
        this.#datastore,
        block,
        this.#cooling,
        this.#claims.nodeName,
        (last, now) => {
          const isHeld = this.#blocks.get(cidr) === held;
          if (isHeld && now === undefined) {
            this.#blocks.delete(cidr);
          }
          if (isHeld) {
            this.#onTaken(last, now);
          }
        },
      );
      this.#blocks.set(cidr, held);
      if (before !== undefined) {
        this.#onTaken(before.spec, block.spec);
      }
    }
  }

  async refresh(cidr: string): Promise<void> {
    await this.#blocks.get(cidr)?.enqueue(undefined);
  }

  /** A watch has seen one of the blocks: if somebody else has written it since it was written or read here, it is read again. */
  async seen({ cidr, sequenceNumber }: BlockSpec): Promise<void> {
    await this.#blocks.get(cidr)?.seen(sequenceNumber);
  }

  /** True if the block is in memory. */
  holds(cidr: string): boolean {
    return this.#blocks.has(cidr);
  }
}

/** One block and the queue of its edits. */
class CachedBlock {
  readonly #datastore: Datastore;
  readonly #cooling: () => Cooling;
  readonly #nodeName: string;
  readonly #onTaken: TakenListener;
  #block: IPAMBlock;
  isStale = false;
  #isRunning = false;
  #queue: Waiting[] = [];

  constructor(
    datastore: Datastore,
    block: IPAMBlock,
    cooling: () => Cooling,
    nodeName: string,
    onTaken: TakenListener,
  ) {
    this.#datastore = datastore;
    this.#block = block;
    this.#cooling = cooling;
    this.#nodeName = nodeName;
    this.#onTaken = onTaken;
  }

  get uid(): string | undefined {
    return this.#block.metadata.uid;
  }

  get spec(): BlockSpec {
    return this.#block.spec;
  }

  async seen(sequence: BlockSpec['sequenceNumber']): Promise<void> {
    if (sequence > this.spec.sequenceNumber && this.#isRunning) {
      await this.enqueue((): { readonly result: undefined } => ({ result: undefined })); // It may be the write under way that was seen.
    }
    if (sequence > this.spec.sequenceNumber) {
      await this.enqueue(undefined);
    }
  }

  enqueue(edit: BlockEdit<unknown> | undefined): Promise<{ readonly result: unknown } | undefined> {
    return new Promise((resolve, reject) => {
      this.#queue.push({ edit, resolve, reject });
      if (!this.#isRunning) {
        this.#isRunning = true;
        // Not at once: what else is asked for in this turn goes into the same write.
        queueMicrotask(() => void this.#run());
      }
    });
  }

  async #run(): Promise<void> {
    while (this.#queue.length > 0) {
      await this.#write(this.#queue.splice(0));
    }
    this.#isRunning = false;
  }

  async #write(batch: readonly Waiting[]): Promise<void> {
    const isKnown = !this.isStale && batch.every(({ edit }) => edit !== undefined);
    const edits = batch.map(({ edit }) => edit ?? (() => ({ result: undefined })));
    try {
      const written = await writeEdits(
        this.#datastore,
        this.#block.spec.cidr,
        isKnown ? this.#block : undefined,
        edits,
        this.#cooling,
        this.#nodeName,
      );
      const before = this.#block;
      this.isStale = false;
      this.#block = written?.block ?? before;
      if (written?.base !== before && hasLost(before, written?.base)) {
        this.#onTaken(before.spec, written?.base.spec);
      }
      batch.forEach(({ resolve }, index) =>
        resolve(written === undefined ? undefined : { result: written.results[index] }),
      );
    } catch (error) {
      // It may have been written all the same: only a read can tell.
      this.isStale = true;
      for (const { reject } of batch) {
        reject(error);
      }
    }
  }
}

/** True if the block that was found is not the same node's and block any more, or has lost allocations. */
function hasLost(before: IPAMBlock, found: IPAMBlock | undefined): boolean {
  return (
    found === undefined ||
    found.metadata.uid !== before.metadata.uid ||
    found.spec.affinity !== before.spec.affinity ||
    missingIn(found.spec, addressesIn(before.spec)).length > 0
  );
}
