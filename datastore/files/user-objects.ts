import { objectText, type KindName } from '#api/kinds.ts';
import type { ObjectKey } from '#api/meta.ts';
import type { Directions } from '#api/policy/types-of.ts';
import type { DatastoreProblem, ProblemEffect } from '../datastore.ts';
import { meanwhileText } from '../meanwhile.ts';
import type { AnyObject } from '../stored-object.ts';
import { placeText, replacementOf, type Claim, type Replacement } from './user-file.ts';

/** Names an object of any kind. */
export interface ObjectRef {
  readonly kind: KindName;
  readonly key: ObjectKey;
}

/** `denies`: the object is the replacement of a policy that never was good. */
interface InForce extends ObjectRef {
  readonly object: AnyObject;
  readonly denies: Directions | undefined;
}

/** Which of the objects that stand in users' files are in force. */
export class UserObjects {
  /** All places that give an object, without those about to go; by the object's text. */
  #places = new Map<string, Claim[]>();
  /** Of these, the ones with a place that can't be used, and the ones in several places: few, and asked for with every listing. */
  #unusable = new Set<string>();
  #disputed = new Set<string>();
  readonly #inForce = new Map<string, InForce>();

  /** The object that is in force, if users' files give one. */
  object(kind: KindName, key: ObjectKey): AnyObject | undefined {
    return this.#inForce.get(objectText(kind, key))?.object;
  }

  /** The places that give the object, for messages; undefined if there are none. */
  placesText(kind: KindName, key: ObjectKey): string | undefined {
    return this.#places
      .get(objectText(kind, key))
      ?.map(({ file, place }) => placeText(file, place))
      .join(' and in ');
  }

  /**
   * Decides anew, from all places. An object in one place is as it stands there; in two places, or in one where it can't be used, it stays
   * as it was, and a policy that never was good, or of which there always were two, is replaced by what denies in its stead. Returns what
   * may have changed.
   */
  weigh(claims: Iterable<{ readonly claim: Claim; readonly leaving: boolean }>): ObjectRef[] {
    const staying = new Set<string>();
    this.#places = new Map();
    this.#unusable = new Set();
    this.#disputed = new Set();
    for (const { claim, leaving } of claims) {
      const id = objectText(claim.kind, claim.key);
      if (leaving) {
        staying.add(id);
        continue;
      }
      const before = this.#places.get(id);
      if (before === undefined) {
        this.#places.set(id, [claim]);
      } else {
        before.push(claim);
        this.#disputed.add(id);
      }
      if (claim.content.object === undefined) {
        this.#unusable.add(id);
      }
    }
    const changed: ObjectRef[] = [];
    for (const [id, { kind, key }] of this.#inForce) {
      if (!this.#places.has(id) && !staying.has(id)) {
        this.#inForce.delete(id);
        changed.push({ kind, key });
      }
    }
    for (const [id, places] of this.#places) {
      const [claim] = places;
      if (claim !== undefined && (places.length === 1 ? this.#take(id, claim) : this.#close(id, places))) {
        changed.push({ kind: claim.kind, key: claim.key });
      }
    }
    return changed;
  }

  /** What can't be used, and what holds in its stead; `owned` tells of which objects we have one. */
  problems(owned: (kind: KindName, key: ObjectKey) => boolean): DatastoreProblem[] {
    return [...this.#unusable].flatMap((id) =>
      (this.#places.get(id) ?? []).flatMap(({ kind, key, file, content }) => {
        if (content.object !== undefined) {
          return [];
        }
        const isOwned = owned(kind, key);
        const effect = isOwned ? 'ignored' : this.#effect(id);
        const meanwhile = isOwned
          ? 'it is ignored: Tortie has one of its own'
          : effect === 'ignored' && this.#disputed.has(id)
            ? 'it is ignored'
            : meanwhileText(kind, effect, this.#inForce.get(id)?.denies);
        const message = `${content.wrong}; ${meanwhile}`;
        return [{ source: file, objects: [id], message, effect }];
      }),
    );
  }

  /** Objects that stand in more than one place: users' files, or one of them and what we own. */
  disputes(own: Iterable<ObjectRef>): DatastoreProblem[] {
    const owned = new Set<string>();
    for (const { kind, key } of own) {
      const id = objectText(kind, key);
      if (this.#places.has(id)) owned.add(id);
    }
    return [...new Set([...this.#disputed, ...owned])].flatMap((id) => {
      const [first] = this.#places.get(id) ?? [];
      if (first === undefined) {
        return [];
      }
      const where = `${id} stands in ${this.placesText(first.kind, first.key)}`;
      if (owned.has(id)) {
        const message = `${where}, and Tortie has one of its own, which stays in force; remove it from the file, or delete the other`;
        return [{ source: first.file, objects: [id], message, effect: 'last-valid' }];
      }
      const effect = this.#effect(id);
      const message = `${where}: ${disputeTexts[effect]}; leave it in one place`;
      return [{ source: first.file, objects: [id], message, effect }];
    });
  }

  /** Takes over the only place of an object; true if that may have changed what is in force. */
  #take(id: string, { kind, key, content }: Claim): boolean {
    const before = this.#inForce.get(id);
    if (content.object !== undefined) {
      if (before?.object === content.object) return false;
      this.#inForce.set(id, { kind, key, object: content.object, denies: undefined });
      return true;
    }
    if (before !== undefined && before.denies === undefined) {
      return false;
    }
    // Never good: as it stands now, so that a restart changes nothing.
    if (content.replacement === undefined) {
      return this.#inForce.delete(id);
    }
    this.#inForce.set(id, { kind, key, ...content.replacement });
    return true;
  }

  /** Of a policy in two places, neither of which can be preferred, and without an earlier state: what the first that can be told would deny. */
  #close(id: string, places: readonly Claim[]): boolean {
    if (this.#inForce.has(id)) {
      return false;
    }
    for (const { kind, key, content } of places) {
      const replacement: Replacement | undefined =
        content.object === undefined ? content.replacement : replacementOf(kind, content.object);
      if (replacement !== undefined) {
        this.#inForce.set(id, { kind, key, ...replacement });
        return true;
      }
    }
    return false;
  }

  #effect(id: string): ProblemEffect {
    const inForce = this.#inForce.get(id);
    return inForce === undefined ? 'ignored' : inForce.denies === undefined ? 'last-valid' : 'denies';
  }
}

const disputeTexts: Readonly<Record<ProblemEffect, string>> = {
  'last-valid': 'its last good state stays in force',
  denies: 'neither is in force, and what its selector selects is denied',
  ignored: 'none is in force',
};
