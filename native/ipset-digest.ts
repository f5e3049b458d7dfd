/**
 * One value for the members of a set, whatever their order: so that a set of 100,000 is compared with the kernel's without a text of it
 * reaching JavaScript. The addon computes the same (`ipset_digest.h`); texts other than ASCII digest otherwise there, which only makes a
 * comparison of members follow.
 */
export class IpsetDigest {
  #a = 0;
  #b = 0;
  #count = 0;

  add(member: string): void {
    this.#a = (this.#a + hash(member, SEED_A)) >>> 0;
    this.#b = (this.#b + hash(member, SEED_B)) >>> 0;
    this.#count += 1;
  }

  remove(member: string): void {
    this.#a = (this.#a - hash(member, SEED_A)) >>> 0;
    this.#b = (this.#b - hash(member, SEED_B)) >>> 0;
    this.#count -= 1;
  }

  /** Of exactly these members. */
  static of(members: Iterable<string>): IpsetDigest {
    const digest = new IpsetDigest();
    for (const member of members) digest.add(member);
    return digest;
  }

  toString(): string {
    return `${this.#count} ${this.#a} ${this.#b}`;
  }
}

const SEED_A = 0x811c9dc5;
const SEED_B = 0x9747b28c;

/** FNV-1a, and the final mix of MurmurHash3: sums of it tell sets apart, 64 bits in all. */
function hash(text: string, seed: number): number {
  let value = seed;
  for (let i = 0; i < text.length; i += 1) value = Math.imul(value ^ text.charCodeAt(i), 0x01000193);
  value = Math.imul(value ^ (value >>> 16), 0x85ebca6b);
  value = Math.imul(value ^ (value >>> 13), 0xc2b2ae35);
  return (value ^ (value >>> 16)) >>> 0;
}
