import { objectText, type KindName } from '#api/kinds.ts';
import type { ObjectKey } from '#api/meta.ts';
import type { DatastoreProblem } from '../datastore.ts';
import type { AnyObject } from '../stored-object.ts';
import type { Claim } from './user-file.ts';

/** Names an object of any kind. */
export interface ObjectRef {
  readonly kind: KindName;
  readonly key: ObjectKey;
}

/** Which of the objects that stand in users' files are in force. */
export class UserObjects {
  /** All places that give an object, without those about to go; by the object's text. */
  #places = new Map<string, Claim[]>();
  readonly #inForce = new Map<string, ObjectRef & { readonly object: AnyObject }>();

  /** The object that is in force, if users' files give one. */
  object(kind: KindName, key: ObjectKey): AnyObject | undefined {
    return this.#inForce.get(objectText(kind, key))?.object;
  }

  /** The places that give the object, for messages; undefined if there are none. */
  placesText(kind: KindName, key: ObjectKey): string | undefined {
    return this.#places
      .get(objectText(kind, key))
      ?.map(({ place }) => place)
      .join(' and in ');
  }

  /**
   * Decides anew, from all places. An object in one place is as it stands there; in two places, or in one where it can't be used, it stays
   * as it was. Returns what may have changed.
   */
  weigh(claims: Iterable<{ readonly claim: Claim; readonly leaving: boolean }>): ObjectRef[] {
    const known = new Set<string>();
    this.#places = new Map();
    for (const { claim, leaving } of claims) {
      const id = objectText(claim.kind, claim.key);
      known.add(id);
      if (!leaving) {
        this.#places.set(id, [...(this.#places.get(id) ?? []), claim]);
      }
    }
    const changed: ObjectRef[] = [];
    for (const [id, { kind, key }] of this.#inForce) {
      if (!known.has(id)) {
        this.#inForce.delete(id);
        changed.push({ kind, key });
      }
    }
    for (const [id, [claim, ...others]] of this.#places) {
      if (claim?.object !== undefined && others.length === 0) {
        const { kind, key, object } = claim;
        this.#inForce.set(id, { kind, key, object });
        changed.push({ kind, key });
      }
    }
    return changed;
  }

  /** Objects that stand in more than one place; `owned` tells of which objects we have one. */
  disputes(owned: (kind: KindName, key: ObjectKey) => boolean): DatastoreProblem[] {
    return [...this.#places].flatMap(([id, places]) => {
      const [first] = places;
      if (first === undefined || (places.length < 2 && !owned(first.kind, first.key))) {
        return [];
      }
      const where = `${id} stands in ${this.placesText(first.kind, first.key)}`;
      const message = owned(first.kind, first.key)
        ? `${where}, and Tortie has one of its own, which stays in force; remove it from the file, or delete the other`
        : `${where}: ${this.#inForce.has(id) ? 'its last good state stays in force' : 'none is in force'}; leave it in one place`;
      return [{ source: first.file, objects: [id], message }];
    });
  }
}
