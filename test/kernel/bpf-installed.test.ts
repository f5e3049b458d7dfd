/** What is installed, on whatever kernel this is: `make test-kernels` runs this on others. */
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from '@jest/globals';
import { programNames } from '#dataplanes/ebpf/bpf-types.gen.ts';
import { loadObject } from '#native/bpf.ts';
import { distDir } from '#test/lab/dist.ts';

const folder = join(distDir, 'bpf');
const objects = readdirSync(folder).filter((name) => name.endsWith('.bpf.o'));

test.each(objects)('the kernel takes every program of dist/bpf/%s', async (name) => {
  using object = await loadObject({ name: 'tortie', elf: join(folder, name) });
  expect(object).toBeDefined();
});

test('each program that the generated types name is in these objects', async () => {
  const loaded = await Promise.all(objects.map((name) => loadObject({ name: 'tortie', elf: join(folder, name) })));
  try {
    const found = (program: string) =>
      loaded.some((object) => {
        try {
          return object.program(program).verifiedInstructions > 0;
        } catch (error) {
          if ((error as NodeJS.ErrnoException).code === 'ENOENT') return false;
          throw error;
        }
      });
    expect(programNames.filter((program) => !found(program))).toEqual([]);
  } finally {
    for (const object of loaded) object[Symbol.dispose]();
  }
});
