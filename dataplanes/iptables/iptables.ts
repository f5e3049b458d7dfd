import type { Conntrack } from '#native/conntrack.ts';
import { Turns } from '#native/turns.ts';
import type { Family, Netlink, NetlinkOp } from '#native/types.ts';
import type { ApplyFailure, ApplyReport, Counter, Dataplane, DeviceCounters } from '../contract.ts';
import type { DataplaneFlows } from '../flows.ts';
import type { CidrText, DataplaneConfig, DataplaneUpdate, EndpointId, WorkloadEndpointInfo } from '../messages.ts';
import type { RuleId } from '../policy.ts';
import { ConntrackFlush } from '../shared/conntrack-flush.ts';
import type { Monitor } from '../shared/monitor-follower.ts';
import { type CycleJudgement, judge } from './cycle-judgement.ts';
import { Families, type FamiliesDeps } from './families.ts';
import type { FamilyReport } from './family.ts';
import { HostDevices } from './host-devices.ts';
import { PolicyState, type RuleChanges } from './policy-state.ts';
import { probeIptables } from './probe.ts';
import { unitSetName } from './render/names.ts';
import { FIRST_BUCKETS, SelectorSets } from './selector-sets.ts';
import { EndpointMembers, type MemberChanges, wlSourceSet } from './wl-source.ts';

/** What the dataplane works with; everything is of the node's own namespace. */
export interface IptablesDeps extends FamiliesDeps {
  readonly conntrack: Pick<Conntrack, 'deleteOf'>;
  readonly host: Pick<Netlink, 'links' | 'addresses'>;
  /** Opens a monitor of links and addresses. */
  readonly openMonitor: () => Monitor;
  /** The kernel's connection tracking. */
  readonly flows?: DataplaneFlows;
}

/**
 * The iptables dataplane. What a pod costs is a member (its address and device) in two ipsets, written by netlink: rules don't depend on
 * pods but on policy units, and no process is forked for a pod of a known unit, nor for members of a selector's set.
 *
 * A cycle, per family: sets and members are read (when it is time), then rules are made from what was said until now; then additions to
 * sets, tables, deletions from sets, sets that nothing refers to any more; then connections of pods that are gone. What is said while it
 * runs is the next one's. A failure leaves its object dirty and doesn't stop the others.
 */
export class IptablesDataplane implements Dataplane {
  readonly kind = 'iptables';
  readonly capabilities = {
    countsDropsPerDevice: false,
    enforcesPolicy: true,
    closesUnknownDevices: true,
    translatesServices: false,
    translatesForNode: false,
  };
  readonly flows?: DataplaneFlows;
  readonly #deps: IptablesDeps;
  readonly #families: Families;
  readonly #state = new PolicyState();
  readonly #members = new EndpointMembers();
  readonly #selectorSets: SelectorSets;
  readonly #hosts: HostDevices;
  readonly #flush: ConntrackFlush;
  readonly #dirtyEndpoints = new Set<EndpointId>();
  readonly #removedEndpoints = new Set<EndpointId>();
  /** A cycle, and entering or leaving the path: each writes the rules that were made last, whose sets only the cycle fills before. */
  readonly #turns = new Turns();
  #hostFailures: readonly ApplyFailure[] = [];
  #serviceRanges: readonly CidrText[] = [];
  #config: DataplaneConfig | undefined;
  /** Configuration or service ranges have changed since the rules were made. */
  #mustPrepare = false;
  #inSync = false;
  #listener: () => void = () => {};

  constructor(deps: IptablesDeps) {
    this.#deps = deps;
    if (deps.flows !== undefined) this.flows = deps.flows;
    const onDue = (): void => this.#listener();
    this.#families = new Families(deps, onDue);
    this.#selectorSets = new SelectorSets(this.#families.ipsets);
    this.#hosts = new HostDevices(deps, onDue);
    this.#flush = new ConntrackFlush(deps.conntrack);
    for (const family of this.#families.ipsets.keys()) this.#wantIfaceSet(family, wlSourceSet(family));
  }

  onUpdate(update: DataplaneUpdate): void {
    this.#flush.record(update);
    switch (update.type) {
      case 'configUpdate':
        this.#configure(update.config);
        break;
      case 'serviceRangesUpdate':
        this.#serviceRanges = update.cidrs;
        this.#mustPrepare = true;
        break;
      case 'ipSetUpdate':
        this.#selectorSets.update(update.id, update.setType, update.members, update.about);
        break;
      case 'ipSetDelta':
        this.#selectorSets.delta(update.id, update.added, update.removed);
        break;
      case 'ipSetRemove':
        this.#selectorSets.remove(update.id);
        break;
      case 'policyUpdate':
        this.#state.setPolicy(update.id, update.policy);
        break;
      case 'policyRemove':
        this.#state.setPolicy(update.id, undefined);
        break;
      case 'profileUpdate':
        this.#state.setProfile(update.id, update.profile);
        break;
      case 'profileRemove':
        this.#state.setProfile(update.id, undefined);
        break;
      case 'hostEndpointUpdate':
        this.#hosts.set(update.id, update.endpoint);
        break;
      case 'hostEndpointRemove':
        this.#hosts.set(update.id, undefined);
        break;
      case 'workloadEndpointUpdate':
        this.#setEndpoint(update.id, update.endpoint);
        break;
      case 'workloadEndpointRemove':
        this.#removeEndpoint(update.id);
        break;
      case 'inSync':
        this.#inSync = true;
        this.#families.allowRemoval();
        break;
      case 'serviceUpdate': // kube-proxy's, in this mode.
      case 'serviceRemove':
        break;
      default: // Routes, pools and hosts are the host network's.
    }
  }

  apply(): Promise<ApplyReport> {
    return this.#turns.run(() => this.#cycle());
  }

  async #cycle(): Promise<ApplyReport> {
    const failed: ApplyFailure[] = [];
    const repaired: string[] = [];
    if (this.#config === undefined) return { programmed: [], removed: [], failed, repaired };
    const reading = await this.#readKernel(this.#config);
    // From here to the first await of the families: one consistent state. What is said later is the next cycle's.
    const endpoints = takeAll(this.#dirtyEndpoints);
    const removed = takeAll(this.#removedEndpoints);
    if (typeof reading === 'string') {
      this.#takeBack(endpoints, removed);
      failed.push({ object: 'dataplane iptables', reason: reading });
      for (const id of endpoints) failed.push({ object: `endpoint ${id}`, endpoint: id, reason: reading });
      return { programmed: [], removed: [], failed, repaired };
    }
    this.#render();
    const { on } = this.#families;
    for (const { ipsets } of on) ipsets.begin();
    this.#flush.begin();
    const reports = await Promise.all(on.map((family) => family.apply()));
    const judgement = judge([...reading, ...reports], this.#state, this.#selectorSets);
    const flushFailure = await this.#flushConnections(judgement, endpoints);
    failed.push(...judgement.failed, ...flushFailure, ...this.#hostFailures);
    repaired.push(...[...reading, ...reports].flatMap((report) => report.repaired));
    const programmed = this.#judgeEndpoints(endpoints, judgement, failed);
    const gone = judgement.deletionsFailed || !this.#inSync ? [] : removed.filter((id) => !this.#flush.pending.has(id));
    const [done, away] = [new Set(programmed), new Set(gone)];
    this.#takeBack(
      endpoints.filter((id) => !done.has(id)),
      removed.filter((id) => !away.has(id)),
    );
    failed.push(...(await this.#families.leave()));
    if (failed.length === 0) failed.push(...(await this.#families.removeOtherVariant()));
    return { programmed, removed: gone.filter((id) => this.#state.unitOf(id) === undefined), failed, repaired };
  }

  requestResync(): void {
    for (const family of this.#families.on) family.requestResync();
    this.#hosts.requestResync();
  }

  onDisturbed(listener: () => void): void {
    this.#listener = listener;
  }

  async probe(): Promise<readonly string[]> {
    return probeIptables(this.#deps, this.#families.wanted(this.#config), this.#config?.iptablesBackend ?? 'auto');
  }

  podDeviceOps(): readonly NetlinkOp[] {
    return [];
  }

  activate(): Promise<void> {
    return this.#turns.run(() => this.#families.setHooked(true));
  }

  release(): Promise<void> {
    return this.#turns.run(() => this.#families.setHooked(false));
  }

  deviceCounters(): Promise<readonly DeviceCounters[]> {
    return Promise.resolve([]);
  }

  /** Both families' packets together. One `iptables-save -c` a family; see `RuleCounters` for what happens when rules are written anew. */
  async ruleCounters(): Promise<ReadonlyMap<RuleId, Counter>> {
    const totals = new Map<RuleId, Counter>();
    for (const family of this.#families.on) await family.addCounters(totals);
    return totals;
  }

  async cleanup(): Promise<void> {
    this.#mustPrepare = true;
    await this.#families.cleanup();
  }

  [Symbol.asyncDispose](): Promise<void> {
    this.#hosts[Symbol.dispose]();
    this.#families[Symbol.dispose]();
    return Promise.resolve();
  }

  #configure(config: DataplaneConfig): void {
    const before = this.#config;
    this.#config = config;
    this.#mustPrepare = true;
    this.#changeMembers(this.#members.setSpoofing(config.workloadSourceSpoofing));
    if (before?.maxIpsetSize === config.maxIpsetSize) return;
    this.#selectorSets.setMaxSize(config.maxIpsetSize);
    for (const family of this.#families.ipsets.keys()) this.#wantIfaceSet(family, wlSourceSet(family));
    for (const { id } of this.#state.units) this.#wantUnitSets(id);
  }

  #wantUnitSets(unitId: string): void {
    for (const family of this.#families.ipsets.keys()) this.#wantIfaceSet(family, unitSetName(family, unitId));
  }

  #wantIfaceSet(family: Family, name: string): void {
    const maxelem = this.#config?.maxIpsetSize ?? 0;
    this.#families.ipsets
      .get(family)
      ?.setSet({ name, type: 'hash:net,iface', family, maxelem, hashsize: FIRST_BUCKETS });
  }

  #setEndpoint(id: EndpointId, endpoint: WorkloadEndpointInfo): void {
    const { unitId, isNew } = this.#state.setEndpoint(id, endpoint);
    if (isNew) this.#wantUnitSets(unitId);
    this.#changeMembers(this.#members.set(id, endpoint, unitId));
    this.#dirtyEndpoints.add(id);
    this.#removedEndpoints.delete(id);
  }

  #removeEndpoint(id: EndpointId): void {
    this.#state.removeEndpoint(id);
    this.#changeMembers(this.#members.remove(id));
    this.#dirtyEndpoints.delete(id);
    this.#removedEndpoints.add(id);
  }

  #changeMembers({ add, remove }: MemberChanges): void {
    for (const { family, set, member } of add) this.#families.ipsets.get(family)?.addMember(set, member);
    for (const { family, set, member } of remove) this.#families.ipsets.get(family)?.removeMember(set, member);
  }

  /** These are still to be done, unless somebody said something else of them meanwhile. */
  #takeBack(endpoints: readonly EndpointId[], removed: readonly EndpointId[]): void {
    for (const id of endpoints) if (!this.#removedEndpoints.has(id)) this.#dirtyEndpoints.add(id);
    for (const id of removed) if (!this.#dirtyEndpoints.has(id)) this.#removedEndpoints.add(id);
  }

  /** Everything that has to be known before rules are made; the reason why nothing can be done, or what of the sets was read. */
  async #readKernel(config: DataplaneConfig): Promise<string | readonly FamilyReport[]> {
    try {
      await this.#prepare(config);
    } catch (error) {
      return (error as Error).message;
    }
    try {
      const resolved = await this.#hosts.resolve();
      if (resolved !== undefined) {
        this.#state.setHosts(resolved.devices);
        this.#hostFailures = resolved.failed;
      }
    } catch (error) {
      this.#hostFailures = [{ object: 'devices of host endpoints', reason: (error as Error).message }];
    }
    return Promise.all(
      this.#families.on.map(async ({ family, ipsets }) => {
        const { failed, repaired } = await ipsets.read();
        return { family, setFailures: failed, tableFailures: [], repaired };
      }),
    );
  }

  /** Follows the configuration; nothing to do while it stays the same. */
  async #prepare(config: DataplaneConfig): Promise<void> {
    if (!this.#mustPrepare) return;
    this.#mustPrepare = false;
    try {
      await this.#families.follow(config, this.#serviceRanges);
      this.#state.touchStatics();
    } catch (error) {
      this.#mustPrepare = true;
      throw error;
    }
  }

  #render(): void {
    const changes = this.#state.takeChanges();
    if (changes === undefined) return;
    for (const id of changes.units)
      if (this.#state.unit(id) === undefined)
        for (const [family, ipsets] of this.#families.ipsets) ipsets.removeSet(unitSetName(family, id));
    // The configuration is in every chain.
    const all: RuleChanges = changes.statics ? withEverything(changes, this.#state.everything()) : changes;
    for (const family of this.#families.on) family.render(this.#state, all);
  }

  /**
   * After members and rules of pods that are gone are, so that no packet makes a new entry. Awaited only when one of the endpoints has such
   * an address now; otherwise the next cycle, which is asked for, says that they are gone. Only a failure to report.
   */
  async #flushConnections(
    judgement: CycleJudgement,
    endpoints: readonly EndpointId[],
  ): Promise<readonly ApplyFailure[]> {
    if (this.#families.hooked !== true) this.#flush.skip();
    if (judgement.deletionsFailed || !this.#inSync) return [];
    if (this.#families.hooked === true) await this.#flush.addUnheld(() => this.#deps.host.addresses());
    let failure = this.#flush.takeFailure();
    if (failure === undefined && this.#flush.isDue) {
      const ended = this.#flush.run();
      const { pending } = this.#flush;
      if (endpoints.some((id) => pending.has(id))) {
        await ended;
        failure = this.#flush.takeFailure();
      } else {
        void ended.then(() => this.#listener());
      }
    }
    return failure === undefined ? [] : [{ object: 'connections of pods that are gone', reason: failure }];
  }

  /** Which of the endpoints are wholly in the kernel; the reason is added for the others. */
  #judgeEndpoints(
    endpoints: readonly EndpointId[],
    judgement: CycleJudgement,
    failed: ApplyFailure[],
  ): readonly EndpointId[] {
    const programmed: EndpointId[] = [];
    const pending = this.#flush.pending;
    for (const id of endpoints) {
      if (this.#dirtyEndpoints.has(id) || this.#removedEndpoints.has(id)) continue;
      const reason =
        judgement.reasonFor(this.#state.unitOf(id), this.#members.of(id)) ??
        (pending.has(id) && this.#inSync
          ? 'connections of the pod that had its address before are still tracked'
          : undefined);
      if (reason !== undefined) failed.push({ object: `endpoint ${id}`, endpoint: id, reason });
      else if (this.#inSync) programmed.push(id); // Before, rules of an earlier agent may still stand.
    }
    return programmed;
  }
}

/** Changes with everything that is there besides. */
function withEverything(changes: RuleChanges, everything: RuleChanges): RuleChanges {
  return {
    ...everything,
    policies: new Set([...changes.policies, ...everything.policies]),
    profiles: new Set([...changes.profiles, ...everything.profiles]),
    units: new Set([...changes.units, ...everything.units]),
    goneRules: changes.goneRules,
  };
}

/** Empties the set and returns what was in it. */
function takeAll<T>(set: Set<T>): T[] {
  const all = [...set];
  set.clear();
  return all;
}
