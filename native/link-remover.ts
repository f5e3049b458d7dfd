import { randomInt } from 'node:crypto';
import { openNetlink } from './netlink.ts';
import type { Netlink, NetlinkFailure, NetnsRef } from './types.ts';

/** One caller's wish. */
interface Wish {
  readonly index: number;
  readonly resolve: () => void;
  readonly reject: (error: unknown) => void;
}

/** A failure that says that the device is gone: what was wanted. */
const goneCodes = new Set(['ENODEV', 'ENXIO']);

/**
 * Deletes devices. Each deletion waits for RCU under the kernel's one lock (20-40 ms), but all devices of a group go in one step: so what
 * is asked for while a deletion is under way goes together in the next one. The group's number is random, and before it is deleted it
 * is looked at: a device that nobody asked for would be someone else's, and then each goes alone. It has a socket of its own, since a
 * socket's next request waits for the one before.
 */
export class LinkRemover implements Disposable {
  readonly #netlink: Netlink;
  readonly #group = randomInt(2 ** 30, 2 ** 31);
  #wishes: Wish[] = [];
  #isRunning = false;

  constructor(netlink: Netlink) {
    this.#netlink = netlink;
  }

  /** For the devices of a namespace; absent: of where the process is. */
  static open(ns?: NetnsRef): LinkRemover {
    return new LinkRemover(openNetlink(ns));
  }

  /** Resolves when the device is gone, also when it was gone before. Rejects with the kernel's refusal. */
  remove(index: number): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#wishes.push({ index, resolve, reject });
      if (!this.#isRunning) void this.#run();
    });
  }

  [Symbol.dispose](): void {
    this.#netlink[Symbol.dispose]();
  }

  async #run(): Promise<void> {
    this.#isRunning = true;
    while (this.#wishes.length > 0) {
      const wishes = this.#wishes;
      this.#wishes = [];
      try {
        await this.#removeAll(wishes);
      } catch (error) {
        for (const { reject } of wishes) reject(error);
      }
    }
    this.#isRunning = false;
  }

  async #removeAll(wishes: readonly Wish[]): Promise<void> {
    if (wishes.length === 1 || !(await this.#removeTogether(wishes))) {
      const results = await this.#netlink.batch(wishes.map(({ index }) => ({ op: 'link.del', link: index })));
      for (const [position, { resolve, reject }] of wishes.entries()) {
        const result = results[position];
        if (result?.ok === false && !isGone(result.error)) reject(result.error);
        else resolve();
      }
      return;
    }
    for (const { resolve } of wishes) resolve();
  }

  /** False when it can't be done so; then nothing was deleted. */
  async #removeTogether(wishes: readonly Wish[]): Promise<boolean> {
    const wanted = new Set(wishes.map(({ index }) => index));
    const marked = await this.#netlink.batch([...wanted].map((link) => ({ op: 'link.set', link, group: this.#group })));
    if (marked.some((result) => !result.ok && !isGone(result.error))) return false;
    const members = (await this.#netlink.links()).filter(({ group }) => group === this.#group);
    if (members.some(({ index }) => !wanted.has(index))) return false;
    if (members.length === 0) return true;
    const [deleted] = await this.#netlink.batch([{ op: 'linkGroup.del', group: this.#group }]);
    return deleted?.ok === true;
  }
}

function isGone(error: NetlinkFailure): boolean {
  return goneCodes.has(error.code);
}
