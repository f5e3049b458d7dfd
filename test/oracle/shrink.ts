/** Makes a failing case small: whatever can be left out while it still fails is left out. */

/** How long shrinking may take; what is reached by then is good enough. */
export interface ShrinkLimits {
  readonly budgetMs: number;
}

/**
 * The smallest value that `fails` still says true of, found by leaving out parts: elements of lists (many at once first), then fields of
 * objects, at any depth. `fails` must bear nonsense: a value that is no valid case doesn't fail.
 */
export async function shrink<T>(
  value: T,
  fails: (candidate: T) => boolean | Promise<boolean>,
  { budgetMs }: ShrinkLimits,
): Promise<T> {
  const deadline = Date.now() + budgetMs;
  let smallest: unknown = value;
  let progress = true;
  while (progress) {
    progress = false;
    // Every success changes what there is to leave out: the walk goes on from the same place in the smaller value.
    let skip = 0;
    for (;;) {
      let tried = 0;
      let next: unknown;
      for (const candidate of smallerOnes(smallest)) {
        if (tried++ < skip) continue;
        if (Date.now() > deadline) return smallest as T;
        if (await fails(candidate as T)) {
          next = candidate;
          break;
        }
      }
      if (next === undefined) break;
      smallest = next;
      skip = tried - 1;
      progress = true;
    }
  }
  return smallest as T;
}

/** The value with one part left out, each part once; the big parts first. */
function* smallerOnes(value: unknown): Generator {
  if (Array.isArray(value)) {
    for (let size = Math.ceil(value.length / 2); size >= 1; size = size === 1 ? 0 : Math.ceil(size / 2)) {
      for (let start = 0; start < value.length; start += size) yield value.toSpliced(start, size);
    }
    for (const [index, member] of value.entries()) {
      for (const smaller of smallerOnes(member)) yield value.with(index, smaller);
    }
  } else if (typeof value === 'object' && value !== null) {
    const entries = Object.entries(value);
    for (const [key] of entries) yield Object.fromEntries(entries.filter(([other]) => other !== key));
    for (const [key, member] of entries) {
      for (const smaller of smallerOnes(member)) yield { ...value, [key]: smaller };
    }
  }
}
