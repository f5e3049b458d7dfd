import { randomUUID } from 'node:crypto';
import type { Clock } from '#api/clock.ts';
import type { Node } from '#api/core/node.ts';
import type { Pod } from '#api/core/pod.ts';
import { keyText, type ObjectKey } from '#api/meta.ts';
import type { Datastore } from '#datastore/datastore.ts';
import { addressAllocationsOf, type AddressAllocation } from '#ipam/allocations.ts';
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
import { mayUse } from './pod-use.ts';

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
  readonly cidrs: readonly string[];
  /** Addresses of pods that live, according to the API server. */
  readonly kept: ReadonlySet<string>;
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
    const cidrsByNode = new Map<string, string[]>();
    for (const block of view.blocks()) {
      for (const name of block.spec.deleted ? [] : nodesIn(block)) {
        if (view.node(name) === undefined) {
          cidrsByNode.set(name, [...(cidrsByNode.get(name) ?? []), block.spec.cidr]);
        }
      }
    }
    const affinities = (await datastore.list('BlockAffinity')).items.filter(({ spec }) => spec.type === 'host');
    const names = new Set([...cidrsByNode.keys(), ...affinities.map(({ spec }) => spec.node)]);
    const gone = await inTurns([...names], requestsAtOnce, async (name) => {
      signal.throwIfAborted();
      return view.node(name) === undefined && (await this.#isGone(name)) ? [name] : [];
    });
    const goneNames = new Set(gone.flat());
    const toAsk = [...cidrsByNode].filter(([name]) => goneNames.has(name) && !this.#isToWait(name, waiting));
    for (let first = 0; first < toAsk.length; first += nodesAtOnce) {
      await this.#collect(toAsk.slice(first, first + nodesAtOnce), waiting, signal);
    }
    for (const affinity of affinities.filter(({ spec }) => goneNames.has(spec.node) && !waiting.has(spec.node))) {
      signal.throwIfAborted();
      if (await this.#isGone(affinity.spec.node)) await deleteLeftAffinity(datastore, affinity);
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

  async #collect(
    chosen: readonly (readonly [string, readonly string[]])[],
    waiting: Map<string, string>,
    signal: AbortSignal,
  ): Promise<void> {
    const { clock, answerMs } = this.#deps;
    const departed: Departed[] = [];
    for (const [name, cidrs] of chosen) {
      const found = await this.#departed(name, cidrs, signal);
      if (found.kept.size > 0)
        waiting.set(name, `there is no such Node, but ${found.kept.size} address(es) of Pods on it`);
      if (found.cidrs.length > 0) departed.push(found);
    }
    if (departed.length === 0) return;
    try {
      const blocks = departed.flatMap(({ node, cidrs }) => cidrs.map((cidr) => ({ node, cidr })));
      await inTurns(blocks, requestsAtOnce, async ({ node, cidr }) => {
        signal.throwIfAborted();
        await node.challenge(cidr);
      });
      await clock.sleep(answerMs, signal);
    } catch (error) {
      await this.#withdraw(departed);
      throw error;
    }
    for (const one of departed) {
      signal.throwIfAborted();
      await this.#free(one, waiting, signal);
    }
  }

  /** What there is to free of a node: blocks in which all is kept are left out. */
  async #departed(name: string, cidrs: readonly string[], signal: AbortSignal): Promise<Departed> {
    const { view, datastore } = this.#deps;
    const wanted = new Set(cidrs);
    const allocations = [...view.blocks()]
      .filter(({ spec }) => wanted.has(spec.cidr))
      .flatMap(({ spec }) => addressAllocationsOf(spec).filter((allocation) => isOfNode(allocation, name)));
    const kept = await inTurns(allocations, requestsAtOnce, async ({ address, attributes }) => {
      signal.throwIfAborted();
      const { namespace, pod } = attributes as Partial<Record<string, string>>;
      if (namespace === undefined || pod === undefined) return [];
      const known = view.pod(namespace, pod) ?? (await datastore.get('Pod', { namespace, name: pod }));
      if (!mayUse(known, name, [address])) return [];
      this.#keptPods.add(keyText({ namespace, name: pod }));
      return [address];
    });
    const keptAddresses = new Set(kept.flat());
    const isAllKept = (cidr: string) => {
      const inBlock = allocations.filter((allocation) => allocation.cidr === cidr);
      return inBlock.length > 0 && inBlock.every(({ address }) => keptAddresses.has(address));
    };
    return {
      node: new DepartedNode(this.#ipam, name, randomUUID()),
      cidrs: cidrs.filter((cidr) => !isAllKept(cidr)),
      kept: keptAddresses,
    };
  }

  async #free(departed: Departed, waiting: Map<string, string>, signal: AbortSignal): Promise<void> {
    const { log, onFreed, clock } = this.#deps;
    const { node, cidrs, kept } = departed;
    const hasReturned = !(await this.#isGone(node.name));
    const answers = await Promise.all(cidrs.map((cidr) => node.hasAnswered(cidr)));
    if (hasReturned || answers.includes(true)) {
      log.warn({ node: node.name, hasReturned }, 'a node that was deleted is alive: what it has stays its own');
      if (!hasReturned) this.#answered.set(node.name, clock.now());
      this.#isToWait(node.name, waiting);
      return this.#withdraw([departed]);
    }
    const freed: string[] = [];
    const isKept = ({ address }: AddressAllocation) => kept.has(address);
    for (const cidr of cidrs) {
      signal.throwIfAborted();
      const outcome = await node.collect(cidr, isKept);
      if (outcome === 'answered') {
        this.#answered.set(node.name, clock.now());
        break;
      }
      freed.push(...outcome.freed);
    }
    if (kept.size === 0 && !this.#isToWait(node.name, waiting)) await node.dropReserve();
    onFreed(node.name, freed);
    log.info({ node: node.name, blocks: cidrs, freed: freed.length, kept: kept.size }, 'freed what a deleted node had');
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
    const { view, clock, cooldownSeconds } = this.#deps;
    const cooling = { now: clock.now(), cooldownSeconds: cooldownSeconds() };
    const left = new Map<string, string | undefined>();
    for (const block of [...view.blocks()].filter((one) => isLeft(one, cooling))) {
      signal.throwIfAborted();
      const { resourceVersion } = block.metadata;
      const isOld = this.#left.get(block.spec.cidr) === resourceVersion;
      if (!isOld || !(await deleteLeftBlock(this.#ipam, block))) left.set(block.spec.cidr, resourceVersion);
    }
    this.#left = left;
  }
}
