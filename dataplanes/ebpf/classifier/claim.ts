/**
 * What is taken for one thing that may not come about, because something it needs isn't there. Then all of it goes back at once, and needs no
 * grace period: nobody can have met it.
 */
export class Claim {
  readonly #undos: (() => void)[] = [];
  /** True for what is new: it leaves each map's share for what units in force need. */
  readonly leavesShare: boolean;

  constructor(leavesShare: boolean) {
    this.leavesShare = leavesShare;
  }

  /** Something was taken; `undo` gives it back. */
  took(undo: () => void): void {
    this.#undos.push(undo);
  }

  /** Gives back what was taken last first. */
  giveUp(): void {
    for (let undo = this.#undos.pop(); undo !== undefined; undo = this.#undos.pop()) undo();
  }
}

/** Of a map's entries, those that only new classes of units in force may take: else one large unit that is new could take them all. */
export const shareOf = (entries: number): number => entries >> 4;
