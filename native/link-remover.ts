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

/** Deletions under way at the same time. The kernel's lock is held for a part of each only; with more, they get in each other's way. */
const lanesAtOnce = 3;

/**
 * Deletes devices. Each deletion waits for RCU (20-40 ms, a part of it under the kernel's one lock), but all devices of a group go in one
 * step: so what is asked for while all lanes are busy goes together in the next step of the first that is free. Each lane has a socket of
 * its own, since a socket's next request waits for the one before.
 */
export class LinkRemover implements Disposable {
  readonly #lanes: readonly Lane[];
  readonly #idle: Lane[];
  #wishes: Wish[] = [];

  /** A lane for each socket. */
  constructor(sockets: readonly Netlink[]) {
    this.#lanes = sockets.map((netlink) => new Lane(netlink));
    this.#idle = [...this.#lanes];
  }

  /** For the devices of a namespace; absent: of where the process is. */
  static open(ns?: NetnsRef): LinkRemover {
    return new LinkRemover(Array.from({ length: lanesAtOnce }, () => openNetlink(ns)));
  }

  /** Resolves when the device is gone, also when it was gone before. Rejects with the kernel's refusal. */
  remove(index: number): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#wishes.push({ index, resolve, reject });
      const lane = this.#idle.pop();
      if (lane !== undefined) void this.#run(lane);
    });
  }

  [Symbol.dispose](): void {
    for (const lane of this.#lanes) lane[Symbol.dispose]();
  }

  async #run(lane: Lane): Promise<void> {
    while (this.#wishes.length > 0) {
      const wishes = this.#wishes;
      this.#wishes = [];
      try {
        await lane.remove(wishes);
      } catch (error) {
        for (const { reject } of wishes) reject(error);
      }
    }
    this.#idle.push(lane);
  }
}

/**
 * One deletion at a time. The group's number is random, and before the group is deleted it is looked at: a device that nobody asked for
 * would be someone else's, and then each goes alone.
 */
class Lane implements Disposable {
  readonly #netlink: Netlink;
  readonly #group = randomInt(2 ** 30, 2 ** 31);

  constructor(netlink: Netlink) {
    this.#netlink = netlink;
  }

  /** Settles every wish, or throws. */
  async remove(wishes: readonly Wish[]): Promise<void> {
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

  [Symbol.dispose](): void {
    this.#netlink[Symbol.dispose]();
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
