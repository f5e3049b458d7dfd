/** Where things stand below the folder, and what their names may be. */
import { createHash } from 'node:crypto';
import type { BigIntStats } from 'node:fs';
import type { ObjectKey } from '#api/meta.ts';

/** What we own, inside the users' folder. */
export const ownFolder = '.tortie';
/** In `.tortie`: the lock between processes, the counter of resourceVersions, and files that are not finished. Kinds' folders are in upper camel case. */
export const lockFile = 'lock';
export const revisionFile = 'revision';
export const temporaryFolder = 'tmp';

/** Longer names than this (file systems end at 255 bytes) are cut and end in their hash. */
const longestName = 200;

/**
 * The file of an object of ours: `NAME.json` or `NAMESPACE_NAME.json`. Every byte but letters, digits, `-` and inner dots is written as %XX, so
 * that `_` only separates, no name is hidden or leads out of the folder, and different keys have different files.
 */
export function fileOf(key: ObjectKey): string {
  const parts = key.namespace === undefined ? [key.name] : [key.namespace, key.name];
  const whole = parts.map(escaped).join('_');
  if (whole.length <= longestName) {
    return `${whole}.json`;
  }
  return `${whole.slice(0, longestName - 66)}%_${createHash('sha256').update(whole).digest('hex')}.json`;
}

/** True for the names of users' files. */
export function isUserFile(name: string): boolean {
  return /^[^.].*\.(ya?ml|json)$/.test(name);
}

/** Changes whenever a file is replaced or written to, as far as the kernel's clock can tell. */
export function signatureOf(stat: BigIntStats): string {
  return `${stat.ino}:${stat.size}:${stat.mtimeNs}`;
}

/** Milliseconds within which two changes can have one time stamp: the kernel's is as coarse as its tick (up to 10 ms), with a margin. */
const tickMs = 50;

/** True if the file may yet change under the same signature: it was changed just before it was looked at. */
export function isRacy(stat: BigIntStats, now: number): boolean {
  return now - Number(stat.mtimeMs) < tickMs;
}

/** Calls `action` for each item, `width` at a time: opening a thousand files at once would use up the descriptors. */
export async function forEachLimited<T>(
  items: Iterable<T>,
  action: (item: T) => Promise<void>,
  width = 16,
): Promise<void> {
  const queue = items[Symbol.iterator]();
  const work = async (): Promise<void> => {
    for (let next = queue.next(); next.done !== true; next = queue.next()) {
      await action(next.value);
    }
  };
  await Promise.all(Array.from({ length: width }, work));
}

/** Runs asynchronous actions one after another, in the order of the calls. */
export class Serial {
  #tail: Promise<unknown> = Promise.resolve();

  run<T>(action: () => Promise<T> | T): Promise<T> {
    const result = this.#tail.then(action);
    this.#tail = result.catch(() => {}); // The caller has the error; the next one starts all the same.
    return result;
  }
}

/** True for a system error of that name, such as `ENOENT`. */
export function isErrno(error: unknown, code: string): boolean {
  return typeof error === 'object' && error !== null && (error as NodeJS.ErrnoException).code === code;
}

function escaped(text: string): string {
  if (/^[A-Za-z0-9-][A-Za-z0-9.-]*$/.test(text)) return text; // Nearly every name.
  const bytes = [...Buffer.from(text)].map((byte) => {
    const char = String.fromCharCode(byte);
    return /[A-Za-z0-9.-]/.test(char) ? char : `%${byte.toString(16).toUpperCase().padStart(2, '0')}`;
  });
  return bytes.join('').replace(/^\./, '%2E');
}
