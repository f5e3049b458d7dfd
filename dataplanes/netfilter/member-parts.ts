import type { IpsetChange } from '#native/ipset.ts';

/** Members a call: the main thread reads them in about 5 ms. */
const MEMBERS_PER_CALL = 20_000;

/** At most so many members each. */
export function chunks(members: readonly string[]): string[][] {
  const count = Math.ceil(members.length / MEMBERS_PER_CALL);
  return Array.from({ length: count }, (_, n) => members.slice(n * MEMBERS_PER_CALL, (n + 1) * MEMBERS_PER_CALL));
}

/** The changes in as few calls as have a bounded number of members each. */
export function parts(changes: readonly IpsetChange[]): IpsetChange[][] {
  const all: IpsetChange[][] = [];
  let room = 0;
  for (const { name, add, del } of changes) {
    for (const part of [
      ...chunks(del).map((some) => ({ name, add: [], del: some })),
      ...chunks(add).map((some) => ({ name, add: some, del: [] })),
    ]) {
      const size = part.add.length + part.del.length;
      if (size > room) {
        all.push([]);
        room = MEMBERS_PER_CALL;
      }
      all.at(-1)?.push(part);
      room -= size;
    }
  }
  return all;
}
