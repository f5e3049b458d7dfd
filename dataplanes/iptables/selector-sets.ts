import { familyOf } from '#api/cidr.ts';
import type { Family } from '#native/types.ts';
import type { Ipsets, SetSpec } from '../netfilter/ipsets.ts';
import { netMembers } from '../netfilter/ipsets.ts';
import type { SetId, SetType } from '../policy.ts';
import { policySetName } from './render/names.ts';

/** Sets grow by themselves; most stay small, and a new one costs its first buckets. */
export const FIRST_BUCKETS = 64;

const KERNEL_TYPES = { net: 'hash:net', ipPort: 'hash:ip,port' } as const satisfies Record<SetType, SetSpec['type']>;
const PROTOCOLS: Readonly<Record<string, string>> = { '6': 'tcp', '17': 'udp', '132': 'sctp', '136': 'udplite' };

interface Announced {
  readonly type: SetType;
  readonly about: string | undefined;
}

/**
 * The sets that policies refer to: calc's announcements as members of the kernel's sets, one a family. Both families have every set,
 * since a rule of either may refer to it; members are in one. What a change costs is what it changes.
 */
export class SelectorSets {
  readonly #ipsets: ReadonlyMap<Family, Ipsets>;
  readonly #announced = new Map<SetId, Announced>();
  readonly #idByName = new Map<string, SetId>();
  #maxelem = 0;

  constructor(ipsets: ReadonlyMap<Family, Ipsets>) {
    this.#ipsets = ipsets;
  }

  /** The most members a set may have. */
  setMaxSize(maxelem: number): void {
    this.#maxelem = maxelem;
    for (const [id, { type }] of this.#announced) this.#want(id, type);
  }

  update(id: SetId, type: SetType, members: readonly string[], about?: string): void {
    this.#announced.set(id, { type, about });
    this.#want(id, type);
    for (const [family, ipsets] of this.#ipsets) {
      const own = members.filter((member) => memberFamily(member) === family);
      ipsets.setMembers(
        policySetName(family, id),
        own.flatMap((member) => kernelMembers(type, member)),
      );
    }
  }

  delta(id: SetId, added: readonly string[], removed: readonly string[]): void {
    const type = this.#announced.get(id)?.type;
    if (type === undefined) throw new TypeError(`set ${id} was changed before it was announced`);
    for (const member of added) {
      const family = memberFamily(member);
      for (const part of kernelMembers(type, member))
        this.#ipsets.get(family)?.addMember(policySetName(family, id), part);
    }
    for (const member of removed) {
      const family = memberFamily(member);
      for (const part of kernelMembers(type, member))
        this.#ipsets.get(family)?.removeMember(policySetName(family, id), part);
    }
  }

  remove(id: SetId): void {
    if (!this.#announced.delete(id)) return;
    for (const [family, ipsets] of this.#ipsets) {
      const name = policySetName(family, id);
      ipsets.removeSet(name);
      this.#idByName.delete(name);
    }
  }

  /** Whose set of the kernel it is, and what it stands for, for people. */
  describe(name: string): { readonly id: SetId; readonly about: string } | undefined {
    const id = this.#idByName.get(name);
    return id === undefined ? undefined : { id, about: this.#announced.get(id)?.about ?? id };
  }

  #want(id: SetId, type: SetType): void {
    for (const [family, ipsets] of this.#ipsets) {
      const name = policySetName(family, id);
      this.#idByName.set(name, id);
      ipsets.setSet({ name, type: KERNEL_TYPES[type], family, maxelem: this.#maxelem, hashsize: FIRST_BUCKETS });
    }
  }
}

/** Of the address: what follows it has a colon in both families. */
const memberFamily = (member: string): Family => familyOf(member.replace(/,.*/, ''));

/** A member as the kernel lists it. */
function kernelMembers(type: SetType, member: string): readonly string[] {
  if (type === 'net') return netMembers(member);
  const [, address = '', protocol = '', port = ''] = /^([^,]+),(\d+):(\d+)$/.exec(member) ?? [];
  return [`${address},${PROTOCOLS[protocol] ?? protocol}:${port}`];
}
