import { readFileSync } from 'node:fs';
import { expect, test } from '@jest/globals';
import { type Layout, presentLayout } from './layout-for-tests.ts';
import { layoutVersion } from './programs.ts';

/*
 * layouts.json says what each layout version has pinned, and is written by hand: when this fails, either take the change back, or raise `layoutVersion` and
 * add what is pinned now under the new name. Whoever runs the build before loses no flows then.
 */
test('what is pinned has the shape that its layout version says', () => {
  const text = readFileSync(new URL('layouts.json', import.meta.url), 'utf8');
  const recorded = (JSON.parse(text) as Record<string, Layout>)[layoutVersion];
  const { maps, structs, enums } = presentLayout();
  expect({ maps, structs }).toEqual({ maps: recorded?.maps, structs: recorded?.structs });
  // Members may come, and none may go or change.
  expect(enums).toMatchObject(recorded?.enums ?? {});
  expect(Object.keys(recorded?.enums ?? {})).toEqual(Object.keys(enums));
});
