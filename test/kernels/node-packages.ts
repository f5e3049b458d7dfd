/** The part of a package-lock.json that says who needs whom: paths such as `node_modules/a/node_modules/b`. */
export interface Lock {
  readonly packages: Readonly<Record<string, LockedPackage>>;
}

/** A package of the lock with the names that it needs. */
export interface LockedPackage {
  readonly dependencies?: Readonly<Record<string, string>>;
  readonly optionalDependencies?: Readonly<Record<string, string>>;
  readonly peerDependencies?: Readonly<Record<string, string>>;
}

/**
 * Folders of the named packages and of all that they need, found as Node finds them.
 * @param names packages at the top level
 * @returns paths relative to the project, sorted; optional packages of other platforms are among them, installed or not
 * @throws Error if one of `names` isn't in the lock
 */
export function packageFolders(lock: Lock, names: readonly string[]): string[] {
  const found = new Set<string>();
  const add = (path: string): void => {
    if (found.has(path)) return;
    found.add(path);
    const { dependencies, optionalDependencies, peerDependencies } = lock.packages[path] ?? {};
    for (const name of Object.keys({ ...dependencies, ...optionalDependencies, ...peerDependencies })) {
      const needed = resolve(lock, path, name);
      // Not there: an optional peer that nobody installed.
      if (needed !== undefined) add(needed);
    }
  };
  for (const name of names) {
    const path = resolve(lock, '', name);
    if (path === undefined) throw new Error(`package-lock.json has no ${name}`);
    add(path);
  }
  return [...found].sort();
}

/** The innermost folder that a package at `from` finds `name` in. */
function resolve(lock: Lock, from: string, name: string): string | undefined {
  for (let at = from; ; at = at.slice(0, Math.max(0, at.lastIndexOf('/node_modules/')))) {
    const path = at === '' ? `node_modules/${name}` : `${at}/node_modules/${name}`;
    if (Object.hasOwn(lock.packages, path)) return path;
    if (at === '') return undefined;
  }
}
