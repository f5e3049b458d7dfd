import type { CidrText, DataplaneUpdate } from '#dataplanes/messages.ts';
import type { SetId } from '#dataplanes/policy.ts';
import { LabelIndex, type LabelRecord, type LabelSources } from '../labels/label-index.ts';
import type { SetSpec } from '../model.ts';
import type { SliceChange, SlicesByService } from '../services/slices-by-service.ts';
import { portMembers, type AddressSource, type NamedPort } from './address-source.ts';
import { MemberSet } from './member-set.ts';
import { ServiceIndex } from './service-index.ts';

/** What a source is made of: its addresses and named ports, and where its labels come from. */
export interface SourceState extends AddressSource {
  readonly labels: LabelSources;
}

/**
 * The sets that active policies and profiles refer to, with their members. A set exists from its first user on; when its last user has
 * gone it stays until the next `take`, so that one that is wanted again by then has lost nothing and nobody is told.
 */
export class SetStore {
  readonly #sets = new Map<SetId, MemberSet>();
  readonly #sources = new Map<string, Source>();
  readonly #services: ServiceIndex;
  readonly #changed = new Set<MemberSet>();
  readonly #unused = new Set<MemberSet>();
  readonly #index = new LabelIndex<MemberSet, Source>({
    started: (set, source) => this.#give(set, source),
    stopped: (set, source) => this.#takeBack(set, source),
  });

  constructor(slices: SlicesByService) {
    this.#services = new ServiceIndex(slices);
  }

  /** How many sets there are. */
  get count(): number {
    return this.#sets.size;
  }

  acquire(spec: SetSpec): void {
    let set = this.#sets.get(spec.id);
    if (set === undefined) {
      set = new MemberSet(spec);
      this.#sets.set(spec.id, set);
      this.#fill(set);
      this.#changed.add(set);
    }
    set.users++;
    this.#unused.delete(set);
  }

  release(id: SetId): void {
    const set = this.#sets.get(id);
    if (set === undefined) return;
    set.users--;
    if (set.users === 0) this.#unused.add(set);
  }

  /** An endpoint, host endpoint or network set, as it is now. */
  setSource(id: string, state: SourceState): void {
    let source = this.#sources.get(id);
    if (source === undefined) {
      source = new Source(state.nets, state.ports);
      this.#sources.set(id, source);
      this.#index.setItem(source, state.labels);
      return;
    }
    // Labels first: whatever still selects it then exchanges the old members for the new ones.
    this.#index.setItem(source, state.labels);
    const { nets, ports } = source;
    if (sameList(nets, state.nets) && samePorts(ports, state.ports)) return;
    const before = { nets, ports };
    source.nets = state.nets;
    source.ports = state.ports;
    for (const set of this.#index.selectorsOf(source)) {
      this.#give(set, source);
      this.#takeBack(set, before);
    }
  }

  removeSource(id: string): void {
    const source = this.#sources.get(id);
    if (source === undefined) return;
    this.#sources.delete(id);
    this.#index.removeItem(source);
  }

  setLayer(id: string, labels: LabelRecord | undefined): void {
    this.#index.setLayer(id, labels);
  }

  /** A slice has changed; that is in `slices` already. */
  onEndpointSlice(change: SliceChange): void {
    this.#services.onSlice(change, (set) => this.#changed.add(set));
  }

  /** New and changed sets, and the ids of those that nobody uses any more. */
  take(): { readonly updates: readonly DataplaneUpdate[]; readonly removals: readonly DataplaneUpdate[] } {
    const removals: DataplaneUpdate[] = [];
    for (const set of this.#unused) {
      this.#sets.delete(set.spec.id);
      this.#changed.delete(set);
      this.#empty(set);
      if (set.isAnnounced) removals.push({ type: 'ipSetRemove', id: set.spec.id });
    }
    this.#unused.clear();
    const updates = [...this.#changed].flatMap((set) => set.take() ?? []);
    this.#changed.clear();
    return { updates, removals };
  }

  #fill(set: MemberSet): void {
    const { spec } = set;
    switch (spec.kind) {
      case 'nets':
        for (const net of spec.nets) set.add(net);
        break;
      case 'service':
        this.#services.addSet(set, spec);
        break;
      default:
        this.#index.addSelector(set, spec.selector);
    }
  }

  #empty(set: MemberSet): void {
    if (set.spec.kind === 'service') this.#services.removeSet(set, set.spec);
    else this.#index.removeSelector(set);
  }

  #give(set: MemberSet, source: AddressSource): void {
    for (const member of membersFor(set, source)) set.add(member);
    this.#changed.add(set);
  }

  #takeBack(set: MemberSet, source: AddressSource): void {
    for (const member of membersFor(set, source)) set.remove(member);
    this.#changed.add(set);
  }
}

class Source implements AddressSource {
  nets: readonly CidrText[];
  ports: readonly NamedPort[];

  constructor(nets: readonly CidrText[], ports: readonly NamedPort[]) {
    this.nets = nets;
    this.ports = ports;
  }
}

function membersFor({ spec }: MemberSet, source: AddressSource): Iterable<string> {
  return spec.kind === 'namedPort' ? portMembers(source, spec.port, spec.protocol) : source.nets;
}

function sameList(a: readonly string[], b: readonly string[]): boolean {
  return a.length === b.length && a.every((member, index) => member === b[index]);
}

function samePorts(a: readonly NamedPort[], b: readonly NamedPort[]): boolean {
  return (
    a.length === b.length &&
    a.every(({ name, protocol, port }, index) => {
      const other = b[index];
      return name === other?.name && protocol === other.protocol && port === other.port;
    })
  );
}
