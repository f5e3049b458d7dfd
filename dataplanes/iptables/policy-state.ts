import type { EndpointId, WorkloadEndpointInfo } from '../messages.ts';
import type { PolicyId, PolicyInfo, ProfileId, ProfileInfo, RuleId, SetId } from '../policy.ts';
import { unitOf } from './render/names.ts';
import type { ChainUse, Direction, HostDevice, PolicyUnit, TableName } from './render/types.ts';
import { hostUses, unitUses } from './render/uses.ts';

/** What has changed since the rules were made last, as far as it matters to rules. */
export interface RuleChanges {
  /** Chains of policies and profiles to make or to take away, in the tables and directions that use them. */
  readonly policies: ReadonlySet<PolicyId>;
  readonly profiles: ReadonlySet<ProfileId>;
  /** Units to make or to take away. */
  readonly units: ReadonlySet<string>;
  readonly hosts: boolean;
  /** Configuration or service ranges. */
  readonly statics: boolean;
  /** Rules that exist no more. */
  readonly goneRules: readonly RuleId[];
}

interface UnitUsers {
  readonly unit: PolicyUnit;
  endpoints: number;
}

const useKey = ({ table, direction, kind, id }: ChainUse): string => `${table} ${direction} ${kind} ${id}`;

/**
 * What has been announced of policies, profiles and who uses them. Endpoints with equal lists share a unit. Policies and profiles count
 * only where a unit or a host endpoint refers to them, table by table and direction by direction.
 *
 * A unit whose last endpoint has gone stays until rules are written anyway: a pod that comes back costs a member again and no process.
 */
export class PolicyState {
  readonly policies = new Map<PolicyId, PolicyInfo>();
  readonly profiles = new Map<ProfileId, ProfileInfo>();
  readonly #units = new Map<string, UnitUsers>();
  readonly #unitOfEndpoint = new Map<EndpointId, string>();
  readonly #uses = new Map<string, number>();
  #hosts: readonly HostDevice[] = [];
  readonly #empty = new Set<string>();
  #changes = newChanges();

  setPolicy(id: PolicyId, policy: PolicyInfo | undefined): void {
    const before = this.policies.get(id);
    if (policy === undefined) this.policies.delete(id);
    else this.policies.set(id, policy);
    this.#changes.policies.add(id);
    this.#noteGoneRules(before, policy);
    // Whoever jumps to it does so in another way if it is staged.
    if (before?.staged !== policy?.staged)
      this.#touchUsers(({ tiers }) => tiers.some(({ ingress, egress }) => ingress.includes(id) || egress.includes(id)));
  }

  setProfile(id: ProfileId, profile: ProfileInfo | undefined): void {
    const before = this.profiles.get(id);
    if (profile === undefined) this.profiles.delete(id);
    else this.profiles.set(id, profile);
    this.#changes.profiles.add(id);
    this.#noteGoneRules(before, profile);
    if ((before === undefined) !== (profile === undefined)) this.#touchUsers(({ profiles }) => profiles.includes(id));
  }

  /** Announces or replaces an endpoint; its unit. `isNew`: the unit's sets must be made. */
  setEndpoint(id: EndpointId, endpoint: WorkloadEndpointInfo): { readonly unitId: string; readonly isNew: boolean } {
    const unit = unitOf(endpoint);
    const isNew = !this.#units.has(unit.id);
    if (this.#unitOfEndpoint.get(id) === unit.id) return { unitId: unit.id, isNew };
    const users = this.#units.get(unit.id) ?? this.#addUnit(unit);
    users.endpoints += 1;
    this.#empty.delete(unit.id);
    this.removeEndpoint(id);
    this.#unitOfEndpoint.set(id, unit.id);
    return { unitId: unit.id, isNew };
  }

  removeEndpoint(id: EndpointId): void {
    const unitId = this.#unitOfEndpoint.get(id);
    if (unitId === undefined) return;
    this.#unitOfEndpoint.delete(id);
    const users = this.#units.get(unitId);
    if (users === undefined) return;
    users.endpoints -= 1;
    if (users.endpoints === 0) this.#empty.add(unitId);
  }

  /** The host endpoints by device. */
  setHosts(hosts: readonly HostDevice[]): void {
    for (const { endpoint } of hosts) this.#use(hostUses(endpoint), 1);
    for (const { endpoint } of this.#hosts) this.#use(hostUses(endpoint), -1);
    this.#hosts = hosts;
    this.#changes.hosts = true;
  }

  touchStatics(): void {
    this.#changes.statics = true;
  }

  get hosts(): readonly HostDevice[] {
    return this.#hosts;
  }

  unit(id: string): PolicyUnit | undefined {
    return this.#units.get(id)?.unit;
  }

  unitOf(id: EndpointId): PolicyUnit | undefined {
    return this.unit(this.#unitOfEndpoint.get(id) ?? '');
  }

  get units(): readonly PolicyUnit[] {
    return [...this.#units.values()].map(({ unit }) => unit);
  }

  isUsed(table: TableName, direction: Direction, kind: ChainUse['kind'], id: string): boolean {
    return this.#uses.has(useKey({ table, direction, kind, id }));
  }

  /** Everything, for a family whose rules are made for the first time. */
  everything(): RuleChanges {
    return {
      policies: new Set(this.policies.keys()),
      profiles: new Set(this.profiles.keys()),
      units: new Set(this.#units.keys()),
      hosts: true,
      statics: true,
      goneRules: [],
    };
  }

  /** What has changed since the last call; undefined: nothing that matters to rules. Units without endpoints go on the occasion. */
  takeChanges(): RuleChanges | undefined {
    const { policies, profiles, units, hosts, statics } = this.#changes;
    if (policies.size + profiles.size + units.size === 0 && !hosts && !statics) return undefined;
    for (const id of this.#empty) {
      const users = this.#units.get(id);
      if (users === undefined) continue;
      this.#units.delete(id);
      this.#use(unitUses(users.unit), -1);
      units.add(id);
    }
    this.#empty.clear();
    const changes = this.#changes;
    this.#changes = newChanges();
    return changes;
  }

  /** The policies and profiles of a unit whose rules refer to one of these sets. */
  usersOfSets(unit: PolicyUnit, sets: ReadonlySet<SetId>): readonly string[] {
    const policies = new Set(unit.tiers.flatMap(({ ingress, egress }) => [...ingress, ...egress]));
    return [
      ...[...policies].filter((id) => refersTo(this.policies.get(id), sets)),
      ...unit.profiles.filter((id) => refersTo(this.profiles.get(id), sets)),
    ];
  }

  #addUnit(unit: PolicyUnit): UnitUsers {
    const users = { unit, endpoints: 0 };
    this.#units.set(unit.id, users);
    this.#use(unitUses(unit), 1);
    this.#changes.units.add(unit.id);
    return users;
  }

  #use(uses: readonly ChainUse[], by: 1 | -1): void {
    for (const use of uses) {
      const key = useKey(use);
      const before = this.#uses.get(key) ?? 0;
      if (before + by === 0) this.#uses.delete(key);
      else this.#uses.set(key, before + by);
      if (before === 0 || before + by === 0)
        (use.kind === 'policy' ? this.#changes.policies : this.#changes.profiles).add(use.id);
    }
  }

  #touchUsers(uses: (lists: { tiers: PolicyUnit['tiers']; profiles: readonly ProfileId[] }) => boolean): void {
    for (const { unit } of this.#units.values()) if (uses(unit)) this.#changes.units.add(unit.id);
    const { hosts } = this;
    this.#changes.hosts ||= hosts.some(({ endpoint }) =>
      uses({
        profiles: endpoint.profiles,
        tiers: [...endpoint.tiers, ...endpoint.forwardTiers, ...endpoint.preDnatTiers, ...endpoint.untrackedTiers],
      }),
    );
  }

  #noteGoneRules(before: ProfileInfo | undefined, after: ProfileInfo | undefined): void {
    if (before === undefined) return;
    const stays = new Set(rulesOf(after).map(({ id }) => id));
    for (const { id } of rulesOf(before)) if (!stays.has(id)) this.#changes.goneRules.push(id);
  }
}

const newChanges = () => ({
  policies: new Set<PolicyId>(),
  profiles: new Set<ProfileId>(),
  units: new Set<string>(),
  hosts: false,
  statics: false,
  goneRules: [] as RuleId[],
});

const rulesOf = (info: ProfileInfo | undefined): ProfileInfo['ingress'] =>
  info === undefined ? [] : [...info.ingress, ...info.egress];

const refersTo = (info: ProfileInfo | undefined, sets: ReadonlySet<SetId>): boolean =>
  rulesOf(info).some(({ source, destination }) =>
    [source, destination].some((peer) =>
      [...peer.sets, ...peer.notSets, ...peer.portSets, ...peer.notPortSets, ...peer.ipPortSets].some((id) =>
        sets.has(id),
      ),
    ),
  );
