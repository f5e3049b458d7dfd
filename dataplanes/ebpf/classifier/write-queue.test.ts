import { expect, test } from '@jest/globals';
import { Twin, testSizes } from './twin-for-tests.ts';
import { WriteQueue } from './write-queue.ts';

/** A queue on a twin, the keys' classes in the order of their writes, and the refused ones. */
function start() {
  const twin = new Twin(testSizes(1000));
  const classes: number[] = [];
  const refused: unknown[] = [];
  twin.onWrite = (write) => void (write.map === 'rows' && classes.push(write.class));
  const queue = new WriteQueue(
    twin,
    ({ write }) => {
      refused.push(write);
      return { deny: new Set(), after: [] };
    },
    () => Promise.resolve(),
  );
  return { twin, queue, classes, refused };
}
const keys = { record: 1, dimension: 0, classes: [1, 2, 3, 4, 5], rows: [10, 20, 30, 40, 50] };

test('keys that wait as one: what fails in the middle goes on there, each is made once, and what was pushed behind comes behind', async () => {
  const { twin, queue, classes } = start();
  const made: string[] = [];
  twin.onWrite = (write) => {
    if (write.map === 'rows') classes.push(write.class);
    made.push(write.map);
  };
  queue.pushKeys(keys);
  queue.push({ map: 'units', index: 1, record: 1 });
  Object.assign(twin, { failAfter: 2, failTimes: 1, failCode: 'EPERM' });
  await expect(queue.drain()).rejects.toMatchObject({ code: 'EPERM' });
  expect(classes).toEqual([1, 2]);
  twin.failAfter = Infinity;
  await queue.drain();
  expect(classes).toEqual([1, 2, 3, 4, 5]);
  expect(made.at(-1)).toBe('units');
  expect(queue.made).toBe(6);
});

test('keys that wait as one: one that has no room is passed over, the others are made', async () => {
  const { twin, queue, classes, refused } = start();
  twin.refuses = (write) => write.map === 'rows' && write.class === 3;
  queue.pushKeys(keys);
  await queue.drain();
  expect(classes).toEqual([1, 2, 4, 5]);
  expect(refused).toEqual([{ map: 'rows', record: 1, dimension: 0, class: 3, row: 30 }]);
});

test('keys that wait as one and are cancelled are not made', async () => {
  const { queue, classes } = start();
  const queued = queue.pushKeys(keys);
  queue.cancel(queued);
  await queue.drain();
  expect(classes).toEqual([]);
  expect(queue.isEmpty).toBe(true);
});
