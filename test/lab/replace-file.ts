import { renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

/** Writes a file of a datastore's folder in one step: nobody sees it empty, however long this process is kept from going on. */
export function replaceFile(dir: string, name: string, text: string): void {
  const temporary = join(dir, `.${name}.new`);
  writeFileSync(temporary, text);
  renameSync(temporary, join(dir, name));
}
