import { systemClock } from '#api/clock.ts';
import type { Datastore } from '#datastore/datastore.ts';
import { openFilesDatastore } from '#datastore/files/files-datastore.ts';
import { KernelFileLock } from '#native/flock.ts';
import type { DatastoreRef } from './config/bootstrap.ts';
import type { Log } from './log.ts';

/** Opens the datastore that the settings name. Rejects, naming it, when it can't be used. */
export function openDatastore(ref: DatastoreRef, log: Log): Promise<Datastore> {
  switch (ref.kind) {
    case 'files':
      return openFilesDatastore({
        dir: ref.dir,
        lock: new KernelFileLock(),
        clock: systemClock,
        log: (level, message) => log[level](message),
      });
  }
}
