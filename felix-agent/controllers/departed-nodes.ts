import { randomUUID } from 'node:crypto';
import type { Clock } from '#api/clock.ts';
import type { Node } from '#api/core/node.ts';
import type { Pod } from '#api/core/pod.ts';
import { keyText, type ObjectKey } from '#api/meta.ts';
import type { Datastore } from '#datastore/datastore.ts';
import { isDatastoreError } from '#datastore/errors.ts';
import { addressAllocationsOf, reserveHandle, type AddressAllocation } from '#ipam/allocations.ts';
import type { IPAMBlock } from '#ipam/block-store.ts';
import {
  deleteLeftAffinity,
  deleteLeftBlock,
  DepartedNode,
  isLeft,
  isOfNode,
  nodesIn,
  type DepartedNodeDeps,
} from '#ipam/departed-node.ts';
import type { Log } from '../log.ts';
import { inTurns } from './in-turns.ts';
import { mayUse, usersOf } from './pod-use.ts';

/** So many nodes are asked, and freed, in one go. */
const nodesAtOnce = 50;
/** So many requests to the API server are under way. */
const requestsAtOnce = 8;
/** An agent that answered although its node is gone is asked again after this time, in ms. */
const askAgainMs = 300_000;

/** What the informers know; moments late. */
export interface ClusterView {
  blocks(): Iterable<IPAMBlock>;
  node(name: string): Node | undefined;
  pod(namespace: string, name: string): Pod | undefined;
  /** Those of the whole cluster. */
  pods(): Iterable<Pod>;
}

/** What `DepartedNodes` works with. */
export interface DepartedNodesDeps {
  readonly datastore: Datastore;
  readonly clock: Clock;
  readonly log: Log;
  readonly view: ClusterView;
  /** ipCooldownSeconds at present. */
  readonly cooldownSeconds: () => number;
  /** How long a gone node's agent has to answer that it is alive, in ms. */
  readonly answerMs: number;
  /** Told of addresses that were freed. */
  readonly onFreed: (node: string, addresses: readonly string[]) => void;
}

/** What a scan found. */
export interface DepartedScan {
  /** Nodes that are gone and still have something; by name, why. */
  readonly waiting: ReadonlyMap<string, string>;
}

/** A gone node's part of a scan. */
interface Departed {
  readonly node: DepartedNode;
  /** Blocks to ask in and to free from. */
  readonly cidrs: readonly string[];
  /** What each of its handles has in all blocks, as the informers know it: a pod with two families has it in two. */
  readonly byHandle: ReadonlyMap<string, readonly string[]>;
  /** How many addresses of living pods there are in blocks that have nothing else. */
  readonly kept: number;
}

/**
 * Frees what deleted nodes leave: addresses, blocks, affinities, handles. One agent at a time runs it, and nothing breaks should two do. Who is gone
 * is read off the blocks and Nodes that the agent watches anyway, and confirmed by a GET; then the node's agent has time to say that it lives.
 */
export class DepartedNodes {
  readonly #deps: DepartedNodesDeps;
  readonly #ipam: DepartedNodeDeps;
  /** Blocks that were there to be deleted at the scan before: by CIDR the version. */
  #left = new Map<string, string | undefined>();
  /** Pods that keep their addresses although their node is gone, as of the last scan. */
  #keptPods = new Set<string>();
  /** Nodes whose agents have answered, and when. */
  readonly #answered = new Map<string, number>();

  constructor(deps: DepartedNodesDeps) {
    this.#deps = deps;
    this.#ipam = deps;
  }

  /** True if another scan could free something when this Pod is gone. */
  isWaitingFor(pod: ObjectKey): boolean {
    return this.#keptPods.has(keyText(pod));
  }

  /** Looks at everything once. Throws what the datastore throws, and the signal's reason when it aborts: what is done by then stays. */
  async scan(signal: AbortSignal): Promise<DepartedScan> {
    const { datastore, view } = this.#deps;
    const waiting = new Map<string, string>();
    this.#keptPods = new Set();
    const blocksByNode = new Map<string, IPAMBlock[]>();
    for (const block of view.blocks()) {
      for (const name of block.spec.deleted ? [] : nodesIn(block)) {
        if (view.node(name) === undefined) {
          const blocks = blocksByNode.get(name) ?? [];
          blocks.push(block);
          blocksByNode.set(name, blocks);
        }
      }
    }
    const affinities = (await datastore.list('BlockAffinity')).items.filter(({ spec }) => spec.type === 'host');
    const names = new Set([...blocksByNode.keys(), ...affinities.map(({ spec }) => spec.node)]);
    const gone = await inTurns([...names], requestsAtOnce, async (name) => {
      signal.throwIfAborted();
      return view.node(name) === undefined && (await this.#isGone(name)) ? [name] : [];
    });
    const goneNames = new Set(gone.flat());
    const toAsk = [...blocksByNode].filter(([name]) => goneNames.has(name) && !this.#isToWait(name, waiting));
    for (let first = 0; first < toAsk.length; first += nodesAtOnce) {
      await this.#collect(toAsk.slice(first, first + nodesAtOnce), waiting, signal);
    }
    for (const affinity of affinities.filter(({ spec }) => goneNames.has(spec.node) && !waiting.has(spec.node))) {
      const { node } = affinity.spec;
      await this.#isolated(node, waiting, signal, async () => {
        if (await this.#isGone(node)) await deleteLeftAffinity(datastore, affinity);
      });
    }
    await this.#deleteLeft(signal);
    return { waiting };
  }

  async #isGone(name: string): Promise<boolean> {
    return (await this.#deps.datastore.get('Node', { name })) === undefined;
  }

  #isToWait(name: string, waiting: Map<string, string>): boolean {
    const at = this.#answered.get(name);
    if (at === undefined || this.#deps.clock.now() - at >= askAgainMs) return false;
    waiting.set(name, 'there is no such Node, but its agent is alive and keeps its addresses');
    return true;
  }

  /** One node's object that can't be read or written must not keep the others'. The API server's absence, and the end of leading, end the scan. */
  async #isolated(
    name: string,
    waiting: Map<string, string>,
    signal: AbortSignal,
    action: () => Promise<void>,
  ): Promise<void> {
    signal.throwIfAborted();
    try {
      await action();
    } catch (error) {
      if (signal.aborted || isDatastoreError(error, 'unavailable')) throw error;
      this.#deps.log.warn({ err: error, node: name }, 'what a deleted node had can not be freed');
      waiting.set(name, `there is no such Node, but ${error instanceof Error ? error.message : String(error)}`);
    }
  }

  async #collect(
    chosen: readonly (readonly [string, readonly IPAMBlock[]])[],
    waiting: Map<string, string>,
    signal: AbortSignal,
  ): Promise<void> {
    const { clock, answerMs } = this.#deps;
    const departed: Departed[] = [];
    for (const [name, blocks] of chosen) {
      await this.#isolated(name, waiting, signal, async () => {
        const found = this.#departed(name, blocks);
        if (found.kept > 0) waiting.set(name, keptText(found.kept));
        if (found.cidrs.length > 0) departed.push(found);
      });
    }
    if (departed.length === 0) return;
    const failed = new Map<string, string>();
    try {
      const questions = departed.flatMap(({ node, cidrs }) => cidrs.map((cidr) => ({ node, cidr })));
      await inTurns(questions, requestsAtOnce, ({ node, cidr }) =>
        this.#isolated(node.name, failed, signal, () => node.challenge(cidr)),
      );
      await clock.sleep(answerMs, signal);
    } catch (error) {
      await this.#withdraw(departed);
      throw error;
    }
    await this.#withdraw(departed.filter(({ node }) => failed.has(node.name)));
    for (const [name, why] of failed) waiting.set(name, why);
    for (const one of departed.filter(({ node }) => !failed.has(node.name))) {
      await this.#isolated(one.node.name, waiting, signal, () => this.#free(one, waiting, signal));
    }
  }

  /** What there is to free of a node, by what the informers know: blocks in which all is kept are left out. */
  #departed(name: string, blocks: readonly IPAMBlock[]): Departed {
    const allocations = blocks.map(({ spec }) => ({
      cidr: spec.cidr,
      mine: addressAllocationsOf(spec).filter((allocation) => isOfNode(allocation, name)),
    }));
    const byHandle = new Map<string, string[]>();
    for (const { handle, address } of allocations.flatMap(({ mine }) => mine)) {
      // Each address of the reserve is for a pod of its own.
      if (handle !== undefined && handle !== reserveHandle(name)) {
        byHandle.set(handle, [...(byHandle.get(handle) ?? []), address]);
      }
    }
    const found = { node: new DepartedNode(this.#ipam, name, randomUUID()), cidrs: [], byHandle, kept: 0 };
    const userOf = this.#userOf(found, new Set(allocations.flatMap(({ mine }) => mine.map(({ address }) => address))));
    const isAllKept = ({ mine }: (typeof allocations)[number]) =>
      mine.length > 0 && mine.every((allocation) => userOf(allocation) !== undefined);
    const left = allocations.filter(isAllKept);
    for (const allocation of left.flatMap(({ mine }) => mine)) this.#keep(userOf(allocation));
    return {
      ...found,
      cidrs: allocations.flatMap((one) => (left.includes(one) ? [] : [one.cidr])),
      kept: left.reduce((sum, { mine }) => sum + mine.length, 0),
    };
  }

  /** Finds the Pod of the informer's that may use an address (of the wanted ones) or one that its handle has besides. */
  #userOf(
    { node, byHandle }: Pick<Departed, 'node' | 'byHandle'>,
    wanted: ReadonlySet<string>,
  ): (allocation: AddressAllocation) => Pod | undefined {
    const { view } = this.#deps;
    const together = ({ address, handle = '' }: AddressAllocation) => [address, ...(byHandle.get(handle) ?? [])];
    const users = usersOf(view.pods(), new Set([...wanted, ...[...byHandle.values()].flat()]));
    return (allocation) => {
      const addresses = together(allocation);
      const { namespace, pod } = allocation.attributes as Partial<Record<string, string>>;
      const named = namespace === undefined || pod === undefined ? undefined : view.pod(namespace, pod);
      const user = addresses.flatMap((address) => users.get(address) ?? [])[0];
      return user ?? (mayUse(named, node.name, addresses) ? named : undefined);
    };
  }

  /**
   * Those of a gone node's addresses that living Pods may use. Whatever Pod says that it has the address keeps it (also one of the reserve that an agent
   * without API server gave away); the API server has the last word on a Pod that the informer doesn't know.
   */
  async #keptOf(
    departed: Departed,
    mine: readonly AddressAllocation[],
    signal: AbortSignal,
  ): Promise<ReadonlySet<string>> {
    const { view, datastore } = this.#deps;
    const { node, byHandle } = departed;
    const userOf = this.#userOf(departed, new Set(mine.map(({ address }) => address)));
    const kept = await inTurns(mine, requestsAtOnce, async (allocation) => {
      signal.throwIfAborted();
      let user = userOf(allocation);
      const { address, attributes, handle = '' } = allocation;
      const { namespace, pod } = attributes as Partial<Record<string, string>>;
      if (
        user === undefined &&
        namespace !== undefined &&
        pod !== undefined &&
        view.pod(namespace, pod) === undefined
      ) {
        const stored = await datastore.get('Pod', { namespace, name: pod });
        user = mayUse(stored, node.name, [address, ...(byHandle.get(handle) ?? [])]) ? stored : undefined;
      }
      this.#keep(user);
      return user === undefined ? [] : [address];
    });
    return new Set(kept.flat());
  }

  #keep(user: Pod | undefined): void {
    if (user === undefined) return;
    const { namespace, name } = user.metadata;
    this.#keptPods.add(keyText(namespace === undefined ? { name } : { namespace, name }));
  }

  async #free(departed: Departed, waiting: Map<string, string>, signal: AbortSignal): Promise<void> {
    const { log, onFreed, clock } = this.#deps;
    const { node, cidrs } = departed;
    const hasReturned = !(await this.#isGone(node.name));
    const answers = await Promise.all(cidrs.map((cidr) => node.hasAnswered(cidr)));
    if (hasReturned || answers.includes(true)) {
      log.warn({ node: node.name, hasReturned }, 'a node that was deleted is alive: what it has stays its own');
      if (!hasReturned) this.#answered.set(node.name, clock.now());
      this.#isToWait(node.name, waiting);
      return this.#withdraw([departed]);
    }
    const freed: string[] = [];
    let { kept } = departed;
    let isAlive = false;
    for (const cidr of cidrs) {
      signal.throwIfAborted();
      const outcome = await node.collect(cidr, (mine) => this.#keptOf(departed, mine, signal));
      if (outcome === 'answered') {
        this.#answered.set(node.name, clock.now());
        isAlive = this.#isToWait(node.name, waiting);
        break;
      }
      freed.push(...outcome.freed);
      kept += outcome.kept;
    }
    if (kept > 0 && !isAlive) waiting.set(node.name, keptText(kept));
    if (kept === 0 && !isAlive) await node.dropReserve();
    onFreed(node.name, freed);
    log.info({ node: node.name, blocks: cidrs, freed: freed.length, kept }, 'freed what a deleted node had');
  }

  async #withdraw(departed: readonly Departed[]): Promise<void> {
    for (const { node, cidrs } of departed) {
      for (const cidr of cidrs) {
        // One that stays is struck out by the node's agent, or replaced by the next question.
        await node.withdraw(cidr).catch((error: unknown) => this.#deps.log.warn({ err: error, cidr }, 'withdrawing'));
      }
    }
  }

  /** Blocks that are nobody's and empty, or marked as deleted, at two scans in the same version. */
  async #deleteLeft(signal: AbortSignal): Promise<void> {
    const { view, clock, cooldownSeconds, log } = this.#deps;
    const cooling = { now: clock.now(), cooldownSeconds: cooldownSeconds() };
    const left = new Map<string, string | undefined>();
    for (const block of [...view.blocks()].filter((one) => isLeft(one, cooling))) {
      signal.throwIfAborted();
      const { resourceVersion } = block.metadata;
      const isOld = this.#left.get(block.spec.cidr) === resourceVersion;
      left.set(block.spec.cidr, resourceVersion);
      try {
        if (isOld && (await deleteLeftBlock(this.#ipam, block))) left.delete(block.spec.cidr);
      } catch (error) {
        if (isDatastoreError(error, 'unavailable')) throw error;
        log.warn({ err: error, cidr: block.spec.cidr }, 'a block that is nobody’s and empty can not be deleted');
      }
    }
    this.#left = left;
  }
}

function keptText(count: number): string {
  return `there is no such Node, but ${count} address(es) of Pods on it`;
}
