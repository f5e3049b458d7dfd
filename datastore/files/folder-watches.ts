import { watch, type BigIntStats } from 'node:fs';

/** Reports changes in one folder (not below it), as a seam: `changed` gets the name of the entry, `lost` is called when it reports no more. */
export type WatchFolder = (
  path: string,
  changed: (entry: string | undefined) => void,
  lost: (error: Error) => void,
) => Disposable;

/** inotify. Events can be lost and the number of watches is limited, so that nobody may rely on them alone. */
export const inotifyFolder: WatchFolder = (path, changed, lost) => {
  const watcher = watch(path, { persistent: false }, (_type, entry) => changed(entry ?? undefined));
  watcher.on('error', lost);
  return { [Symbol.dispose]: () => watcher.close() };
};

/** Watches on a set of folders; a folder that was made anew under its old name is watched anew. */
export class FolderWatches implements Disposable {
  readonly #watchFolder: WatchFolder;
  readonly #changed: (folder: string, entry: string | undefined) => void;
  readonly #failed: (folder: string, error: unknown) => void;
  readonly #watches = new Map<string, { readonly identity: string; readonly watch: Disposable | undefined }>();
  #closed = false;

  constructor(
    watchFolder: WatchFolder,
    changed: (folder: string, entry: string | undefined) => void,
    failed: (folder: string, error: unknown) => void,
  ) {
    this.#watchFolder = watchFolder;
    this.#changed = changed;
    this.#failed = failed;
  }

  /** Watches the folder from now on. Call it before reading the folder: then no change falls between. A failure is reported once for each folder. */
  ensure(folder: string, stat: BigIntStats): void {
    // A new folder may have the inode of the one before it, but not its time of birth.
    const identity = `${stat.ino}:${stat.birthtimeNs}`;
    if (this.#closed || this.#watches.get(folder)?.identity === identity) {
      return;
    }
    this.drop(folder);
    try {
      const watch = this.#watchFolder(
        folder,
        (entry) => this.#changed(folder, entry),
        (error) => {
          this.drop(folder);
          this.#failed(folder, error);
        },
      );
      this.#watches.set(folder, { identity, watch });
    } catch (error) {
      this.#watches.set(folder, { identity, watch: undefined });
      this.#failed(folder, error);
    }
  }

  /** Stops watching the folder. */
  drop(folder: string): void {
    this.#watches.get(folder)?.watch?.[Symbol.dispose]();
    this.#watches.delete(folder);
  }

  [Symbol.dispose](): void {
    this.#closed = true;
    for (const folder of this.#watches.keys()) {
      this.drop(folder);
    }
  }
}
