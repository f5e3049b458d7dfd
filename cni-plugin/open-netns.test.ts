/** Which of two mount namespaces' views is believed. */
import { describe, expect, test } from '@jest/globals';
import { cniCode } from './errors.ts';
import type { Namespaces } from './namespaces.ts';
import { openNetns } from './open-netns.ts';

const netns = '/run/netns/c1';

/** A process that sees these namespaces, by path and inode number. */
function seeing(view: Readonly<Record<string, number>>) {
  const held = new Set<string>();
  const hold = (path: string) => {
    const inode = view[path];
    if (inode === undefined) throw new Error(`ENOENT: ${path}`);
    held.add(path);
    return { path, inode, [Symbol.dispose]: () => void held.delete(path) };
  };
  return { held, namespaces: { hold } as unknown as Namespaces };
}

describe('the namespace is', () => {
  test.each([
    [
      "the launcher's, though the path leads elsewhere here",
      { '/proc/7/fd/4': 42, [netns]: 41 },
      '7/4/42',
      '/proc/7/fd/4',
    ],
    ["the launcher's, where the path is nothing here", { '/proc/7/fd/4': 42 }, '7/4/42', '/proc/7/fd/4'],
    ["the path's, if that is the same one", { [netns]: 42 }, '7/4/42', netns],
    [
      "the path's, if the number below /proc is another process by now",
      { '/proc/7/fd/4': 40, [netns]: 42 },
      '7/4/42',
      netns,
    ],
    ["the path's, for a launcher that says nothing", { [netns]: 41 }, undefined, netns],
  ] as const)('%s', (_what, view, seen, path) => {
    const { held, namespaces } = seeing(view);
    using opened = openNetns(namespaces, netns, seen);
    expect(opened.path).toBe(path);
    expect([...held]).toEqual([path]);
  });
});

describe('refused, with code 3 and nothing held', () => {
  test.each([
    ['what the runtime itself cannot open', { [netns]: 41 }, '!No such file or directory', 'No such file or directory'],
    ['a path that is another namespace here', { [netns]: 41 }, '7/4/42', `${netns} is another namespace here`],
    ['what cannot be reached from here', {}, '7/4/42', 'hostPID'],
    ['what is not there, for a launcher that says nothing', {}, undefined, `ENOENT: ${netns}`],
  ] as const)('%s', (_what, view, seen, words) => {
    const { held, namespaces } = seeing(view);
    expect(() => openNetns(namespaces, netns, seen)).toThrow(
      expect.objectContaining({ code: cniCode.unknownContainer, message: expect.stringContaining(words) }),
    );
    expect(held.size).toBe(0);
  });
});
