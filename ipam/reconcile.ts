/**
 * What an address is after a restart: block, journal and the node itself may each say something else. Pure; the table is in
 * docs/design/ipam.md. Two rules decide: what is live is never given to anyone else, and a pod's address is freed only on proof.
 */

/** What the datastore says. `owned`: by a workload of this node; `other`: by anyone or anything else; `none`: there is no block. */
export type StoredState =
  | { readonly is: 'free' | 'other' | 'none' }
  | { readonly is: 'reserve'; readonly sequence: string }
  | { readonly is: 'owned'; readonly handle: string; readonly sequence: string };

/** What the journal says last of the address. */
export type JournalState =
  | { readonly type: 'give' | 'release'; readonly handle: string; readonly sequence: string }
  | undefined;

/** What the node has: nothing, a link or route of an unknown owner, or of a known one. */
export type LiveState = undefined | 'unknown' | { readonly handle: string };

/**
 * What to do. `keep`: it is as the datastore says. `give`: it is this handle's, wherever it is now. `quarantine`: keep it under the
 * reserve's handle, but give it to nobody. `dispute`: it is used here, and someone else's in the datastore.
 */
export type Verdict =
  | { readonly do: 'keep' | 'release' | 'quarantine' | 'dispute' }
  | { readonly do: 'give'; readonly handle: string };

/** Decides for one address. `isGone` says whether there is proof that a handle's sandbox no longer exists. */
export function decide(
  stored: StoredState,
  journal: JournalState,
  live: LiveState,
  isGone: (handle: string) => boolean,
): Verdict {
  const owner = ownerOf(stored, journal);
  if (typeof live === 'object') {
    if (stored.is === 'other') {
      return { do: 'dispute' };
    }
    const isStored = stored.is === 'owned' && stored.handle === live.handle;
    return isStored ? { do: 'keep' } : { do: 'give', handle: live.handle };
  }
  if (live === 'unknown') {
    if (owner.is === 'given') {
      return { do: 'give', handle: owner.handle };
    }
    // One that is a pod's stays so, even if its release was asked for: until it is not live any more.
    return { do: stored.is === 'reserve' || stored.is === 'free' ? 'quarantine' : 'keep' };
  }
  switch (owner.is) {
    case 'released':
      return { do: 'release' };
    case 'given':
      return isGone(owner.handle) ? { do: 'release' } : { do: 'give', handle: owner.handle };
    case 'stored':
      return stored.is === 'owned' && isGone(stored.handle) ? { do: 'release' } : { do: 'keep' };
  }
}

type Owner = { readonly is: 'given'; readonly handle: string } | { readonly is: 'released' | 'stored' };

/** A journal record counts only for the very allocation that it was written about. */
function ownerOf(stored: StoredState, journal: JournalState): Owner {
  if (
    journal === undefined ||
    (stored.is !== 'reserve' && stored.is !== 'owned') ||
    stored.sequence !== journal.sequence
  ) {
    return { is: 'stored' };
  }
  if (journal.type === 'release') {
    return stored.is === 'reserve' || stored.handle === journal.handle ? { is: 'released' } : { is: 'stored' };
  }
  return stored.is === 'reserve' ? { is: 'given', handle: journal.handle } : { is: 'stored' };
}
