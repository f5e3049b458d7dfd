import { createHash } from 'node:crypto';
import type { KindMap } from '#api/kinds.ts';
import { handleName } from '#api/names.ts';
import { v3 } from '#api/v3/group.ts';
import type { Datastore } from '#datastore/datastore.ts';
import { isDatastoreError } from '#datastore/errors.ts';
import { IpamError } from './ipam.ts';
import { deleteInTwoSteps, maxTries } from './two-step-delete.ts';

/** Block's CIDR to the number of addresses that the handle has there. */
export type HandleCounts = Readonly<Record<string, number>>;

/**
 * IPAMHandles: where to look for a handle's addresses. A count goes up before the block is written and down after; so whatever crashes
 * between, it may be too high, but an address is never lost.
 */
export class Handles {
  readonly #datastore: Datastore;

  constructor(datastore: Datastore) {
    this.#datastore = datastore;
  }

  /** The counts of a handle, or undefined if there is none. */
  async counts(handle: string): Promise<HandleCounts | undefined> {
    const object = await this.#get(handle);
    return object === undefined || object.spec.deleted ? undefined : object.spec.block;
  }

  /** Counts `n` more (or fewer) addresses in a block. */
  async add(handle: string, cidr: string, n: number): Promise<void> {
    await this.change(handle, (counts) => ({ ...counts, [cidr]: (counts[cidr] ?? 0) + n }), { expectNew: n > 0 });
  }

  /** Forgets blocks; with the last one the handle goes. */
  async drop(handle: string, cidrs: readonly string[]): Promise<void> {
    await this.change(handle, (counts) => ({ ...counts, ...Object.fromEntries(cidrs.map((cidr) => [cidr, 0])) }));
  }

  /**
   * Replaces the counts by compare-and-swap; what is not above 0 is left out, and a handle without counts is deleted. `expectNew` saves
   * the read when there most likely is no such handle yet.
   */
  async change(
    handle: string,
    next: (counts: HandleCounts) => HandleCounts,
    options: { readonly expectNew?: boolean } = {},
  ): Promise<void> {
    let isNew = options.expectNew === true;
    for (let tries = 0; tries < maxTries; tries++) {
      const current = isNew ? undefined : await this.#get(handle);
      isNew = false;
      if (current?.spec.deleted === true) {
        await deleteInTwoSteps(this.#datastore, 'IPAMHandle', current);
        continue;
      }
      const old = current?.spec.block ?? {};
      if (await this.#write(handle, current, positive(next(old)), old)) {
        return;
      }
    }
    throw new IpamError('unavailable', `IPAMHandle ${handle}: gave up after ${maxTries} conflicting writes by others`);
  }

  /** False on a conflict. */
  async #write(
    handle: string,
    current: KindMap['IPAMHandle'] | undefined,
    block: HandleCounts,
    old: HandleCounts,
  ): Promise<boolean> {
    const isEmpty = Object.keys(block).length === 0;
    try {
      if (current === undefined) {
        if (!isEmpty) {
          await this.#datastore.create('IPAMHandle', {
            apiVersion: v3,
            kind: 'IPAMHandle',
            metadata: { name: handleObjectName(handle) },
            spec: { handleID: handle, block, deleted: false },
          });
        }
        return true;
      }
      if (isEmpty) {
        return await deleteInTwoSteps(this.#datastore, 'IPAMHandle', current);
      }
      if (!sameCounts(block, old)) {
        await this.#datastore.update('IPAMHandle', { ...current, spec: { ...current.spec, block } });
      }
      return true;
    } catch (error) {
      if (['already-exists', 'conflict', 'not-found'].some((code) => isDatastoreError(error, code as 'conflict'))) {
        return false;
      }
      throw error;
    }
  }

  #get(handle: string): Promise<KindMap['IPAMHandle'] | undefined> {
    return this.#datastore.get('IPAMHandle', { name: handleObjectName(handle) });
  }
}

const subdomain = /^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$/;

/**
 * The object's name: Calico's (the handle in lower case) where that can be a name. A CNI network's name may hold `_`, and a container id
 * may be long: then the allowed part of it and a hash.
 */
export function handleObjectName(handle: string): string {
  const name = handleName(handle);
  if (name.length <= 253 && subdomain.test(name)) {
    return name;
  }
  const hash = createHash('sha256').update(handle).digest('hex').slice(0, 20);
  const readable = name
    .replaceAll(/[^a-z0-9]+/g, '-')
    .replaceAll(/^-|-$/g, '')
    .slice(0, 200);
  return `${readable}${readable === '' || readable.endsWith('-') ? '' : '-'}${hash}`;
}

function positive(counts: HandleCounts): HandleCounts {
  return Object.fromEntries(Object.entries(counts).filter(([, count]) => count > 0));
}

function sameCounts(a: HandleCounts, b: HandleCounts): boolean {
  const keys = Object.keys(a);
  return keys.length === Object.keys(b).length && keys.every((key) => a[key] === b[key]);
}
