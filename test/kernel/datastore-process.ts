/**
 * A process on a files datastore, to be run by itself: `increment DIR COUNT` raises the handle `counter` so many times; `churn DIR PREFIX`
 * makes, changes and removes handles until it is killed, and says each thing done: `NAME COUNT REVISION`, or `NAME deleted`.
 */
import { writeSync } from 'node:fs';
import { systemClock } from '#api/clock.ts';
import { isDatastoreError } from '#datastore/errors.ts';
import { openFilesDatastore } from '#datastore/files/files-datastore.ts';
import { counted, countOf, handle } from '#datastore/objects-for-tests.ts';
import { KernelFileLock } from '#native/flock.ts';

const [verb, dir = '', argument = ''] = process.argv.slice(2);
const log = (_level: string, message: string): void => void writeSync(2, `${message}\n`);
const store = await openFilesDatastore({ dir, lock: new KernelFileLock(), clock: systemClock, log });

if (verb === 'increment') {
  for (let done = 0; done < Number(argument);) {
    const read = await store.get('IPAMHandle', { name: 'counter' });
    if (read === undefined) {
      throw new Error('the counter is gone');
    }
    try {
      await store.update('IPAMHandle', counted(read, (countOf(read) ?? 0) + 1));
      done += 1;
    } catch (error) {
      if (!isDatastoreError(error, 'conflict')) {
        throw error;
      }
    }
  }
  await store[Symbol.asyncDispose]();
} else {
  // Four at once, so that they share turns of the lock.
  await Promise.all([0, 1, 2, 3].map(churn));
}

async function churn(lane: number): Promise<never> {
  for (let round = 0; ; round++) {
    const name = `${argument}-${lane}-${round}`;
    const created = await store.create('IPAMHandle', handle(name, 0));
    writeSync(1, `${name} 0 ${created.metadata.resourceVersion}\n`);
    const updated = await store.update('IPAMHandle', counted(created, 1));
    writeSync(1, `${name} 1 ${updated.metadata.resourceVersion}\n`);
    if (round % 2 === 0) {
      await store.delete('IPAMHandle', { name });
      writeSync(1, `${name} deleted\n`);
    }
  }
}
