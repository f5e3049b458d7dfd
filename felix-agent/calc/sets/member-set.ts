import type { DataplaneUpdate } from '#dataplanes/messages.ts';
import type { SetType } from '#dataplanes/policy.ts';
import type { SetSpec } from '../model.ts';

/**
 * The members of one set, counted: two endpoints may name the same port, two network sets the same network, and the member goes with
 * the last of them. What changed since the last message is kept, so that saying it costs as much as the change.
 */
export class MemberSet {
  readonly spec: SetSpec;
  /** How many policies and profiles refer to it. */
  users = 0;
  /** How often each member was added. */
  readonly #counts = new Map<string, number>();
  readonly #added = new Set<string>();
  readonly #removed = new Set<string>();
  #isAnnounced = false;

  constructor(spec: SetSpec) {
    this.spec = spec;
  }

  get type(): SetType {
    const { spec } = this;
    return spec.kind === 'namedPort' || (spec.kind === 'service' && spec.withPorts) ? 'ipPort' : 'net';
  }

  get isAnnounced(): boolean {
    return this.#isAnnounced;
  }

  add(member: string): void {
    const count = this.#counts.get(member) ?? 0;
    this.#counts.set(member, count + 1);
    if (count === 0 && this.#isAnnounced && !this.#removed.delete(member)) this.#added.add(member);
  }

  remove(member: string): void {
    const count = this.#counts.get(member) ?? 0;
    if (count > 1) {
      this.#counts.set(member, count - 1);
    } else if (count === 1) {
      this.#counts.delete(member);
      if (this.#isAnnounced && !this.#added.delete(member)) this.#removed.add(member);
    }
  }

  /** What is to be said: all of it the first time, then what changed; undefined for nothing. */
  take(): DataplaneUpdate | undefined {
    const { id } = this.spec;
    if (!this.#isAnnounced) {
      this.#isAnnounced = true;
      return {
        type: 'ipSetUpdate',
        id,
        setType: this.type,
        members: [...this.#counts.keys()],
        about: aboutSet(this.spec),
      };
    }
    if (this.#added.size === 0 && this.#removed.size === 0) return undefined;
    const delta = { type: 'ipSetDelta', id, added: [...this.#added], removed: [...this.#removed] } as const;
    this.#added.clear();
    this.#removed.clear();
    return delta;
  }
}

/** What a set stands for, for people. */
function aboutSet(spec: SetSpec): string {
  switch (spec.kind) {
    case 'selector':
      return spec.selector.text;
    case 'nets':
      return `${spec.nets.length} networks`;
    case 'namedPort':
      return `named port ${spec.port} (protocol ${spec.protocol}) of ${spec.selector.text}`;
    case 'service':
      return `service ${spec.namespace}/${spec.name}`;
  }
}
