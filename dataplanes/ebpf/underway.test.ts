import { expect, test } from '@jest/globals';
import { Underway } from './underway.ts';

class Handle implements Disposable {
  isOpen = true;

  [Symbol.dispose](): void {
    this.isOpen = false;
  }
}

test("what is taken is its taker's", async () => {
  const handle = new Handle();
  {
    using underway = new Underway(Promise.resolve(handle));
    expect(await underway.take()).toBe(handle);
  }
  await Promise.resolve();
  expect(handle.isOpen).toBe(true);
});

test('what nobody has taken is closed when it comes', async () => {
  const { promise, resolve } = Promise.withResolvers<Handle>();
  new Underway(promise)[Symbol.dispose]();
  const handle = new Handle();
  resolve(handle);
  await promise;
  expect(handle.isOpen).toBe(false);
});

test('a load that fails is told to who takes it, and to nobody else', async () => {
  const failing = Promise.reject(new Error('the verifier refused it'));
  using underway = new Underway(failing);
  await expect(underway.take()).rejects.toThrow('the verifier refused it');
  new Underway(Promise.reject<Handle>(new Error('nobody asks')))[Symbol.dispose]();
  await new Promise((resolve) => setImmediate(resolve));
});

test('it is taken once', () => {
  using underway = new Underway(Promise.resolve(new Handle()));
  void underway.take();
  expect(() => underway.take()).toThrow('it was taken before, or is closed');
});
