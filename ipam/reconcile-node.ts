import { containsIp, parseCidr, tryParseIp, type Ip } from '#api/cidr.ts';
import { messageOf } from '#api/errors.ts';
import { addressesIn, isWorkloadOf, reserveHandle, type AddressAllocation } from './allocations.ts';
import type { Assigned } from './allocator.ts';
import { allocationAt, touch, type BlockOwner, type BlockSpec } from './block.ts';
import type { CachedBlocks } from './cached-blocks.ts';
import type { BlockClaims } from './claims.ts';
import { IpamError } from './ipam.ts';
import type { Journal, JournalRecord } from './journal.ts';
import { placeOf, type Ledger } from './ledger.ts';
import { decide, type LiveState, type StoredState } from './reconcile.ts';

/** What is really on the node when its IPAM starts. */
export interface NodeFacts {
  /**
   * Addresses (canonical text, no prefix length) on the node's links and routes that belong to containers; with the handle, and what was
   * stored with it, where the node's own records know them.
   */
  readonly live: ReadonlyMap<
    string,
    { readonly handle: string; readonly attributes?: Readonly<Record<string, string>> } | undefined
  >;
  /**
   * The handles of all sandboxes that exist, if that is known for sure (after a reboot: none; or the runtime's list). Absent: unknown, and
   * then no pod's address is released at the start; DEL or GC will.
   */
  readonly valid?: ReadonlySet<string>;
}

interface ReconcileDeps {
  readonly nodeName: string;
  readonly claims: BlockClaims;
  readonly blocks: CachedBlocks;
  readonly journal: Journal;
  readonly ledger: Ledger;
  readonly assignExact: (address: string, owner: BlockOwner) => Promise<Assigned>;
  readonly compareCounts: (handle: string) => void;
  readonly log: (level: 'warn' | 'error', message: string) => void;
}

type AddressRecord = Exclude<JournalRecord, { readonly type: 'intent' }>;

/** One address with the block that it lies in (own or not), if there is one. */
interface Found {
  readonly ip: Ip;
  readonly spec: BlockSpec | undefined;
  readonly isOwn: boolean;
  readonly allocation: AddressAllocation | undefined;
}

/** Fills blocks and ledger from the datastore, and decides on every address of this node. Throws what the datastore throws. */
export async function reconcile(deps: ReconcileDeps, facts: NodeFacts): Promise<void> {
  const { claims, blocks, journal } = deps;
  for (const block of await claims.ownBlocks()) {
    blocks.claimed(block);
  }
  // The process before this one may have left writes on their way to the datastore: what is decided below must stay true.
  const write = (specs: readonly BlockSpec[]) =>
    Promise.all(specs.map(({ cidr }) => blocks.edit(cidr, (spec) => ({ spec: touch(spec), result: undefined }))));
  const [all] = await Promise.all([claims.allBlocks(), write(blocks.specs())]);
  const confirmed: BlockSpec[] = [];
  for (const block of all.filter((one) => claims.isOwn(one) && !blocks.holds(one.spec.cidr))) {
    // A block of ours without an affinity: confirm it.
    const claimed = await claims.claim(block.spec.cidr);
    if (claimed !== undefined) {
      blocks.claimed(claimed);
      confirmed.push(claimed.spec);
    }
  }
  await write(confirmed);
  const own = blocks.specs();
  const foreign = all.map(({ spec }) => spec).filter(({ cidr }) => !blocks.holds(cidr));
  const records = new Map<string, AddressRecord>();
  for (const record of journal.records()) {
    if (record.type === 'intent') {
      deps.compareCounts(record.handle);
    } else {
      records.set(record.address, record);
    }
  }
  for (const ip of relevantAddresses(deps, facts, records, own, foreign)) {
    await settleAddress(deps, facts, find(ip, own, foreign), records.get(ip.text));
  }
}

/** Every address that block, journal or node connect with this node; foreign blocks' ones are remembered as borrowed. */
function relevantAddresses(
  { nodeName, ledger }: ReconcileDeps,
  facts: NodeFacts,
  records: ReadonlyMap<string, unknown>,
  own: readonly BlockSpec[],
  foreign: readonly BlockSpec[],
): readonly Ip[] {
  const isOurs = (allocation: AddressAllocation) =>
    isWorkloadOf(allocation, nodeName) || allocation.handle === reserveHandle(nodeName);
  const borrowed = foreign.flatMap((spec) => addressesIn(spec).filter(isOurs));
  for (const allocation of borrowed) {
    ledger.borrow(allocation);
  }
  const stored = [...own.flatMap((spec) => addressesIn(spec).filter(isOurs)), ...borrowed].map(
    ({ address }) => address,
  );
  return [...new Set([...records.keys(), ...stored, ...facts.live.keys()])].flatMap((text) => tryParseIp(text) ?? []);
}

function find(ip: Ip, own: readonly BlockSpec[], foreign: readonly BlockSpec[]): Found {
  const holds = (spec: BlockSpec) => containsIp(parseCidr(spec.cidr), ip);
  const mine = own.find(holds);
  const spec = mine ?? foreign.find(holds);
  const allocation = spec && addressesIn(spec).find(({ address }) => address === ip.text);
  return { ip, spec, isOwn: mine !== undefined, allocation };
}

function storedState({ ip, spec, isOwn, allocation }: Found, nodeName: string): StoredState {
  if (spec === undefined) {
    return { is: 'none' };
  }
  if (allocation === undefined) {
    const isCooling = allocationAt(spec, placeOf(ip.text, spec.cidr).ordinal) !== undefined;
    // A free address of another node's block is that node's to keep out of use, not ours.
    return { is: isCooling ? 'other' : isOwn ? 'free' : 'none' };
  }
  const sequence = String(allocation.sequence);
  if (allocation.handle === reserveHandle(nodeName)) {
    return { is: 'reserve', sequence };
  }
  return allocation.handle !== undefined && isWorkloadOf(allocation, nodeName)
    ? { is: 'owned', handle: allocation.handle, sequence }
    : { is: 'other' };
}

async function settleAddress(
  deps: ReconcileDeps,
  facts: NodeFacts,
  found: Found,
  record: AddressRecord | undefined,
): Promise<void> {
  const { nodeName, ledger, journal } = deps;
  const { ip, spec, allocation } = found;
  const stored = storedState(found, nodeName);
  const isGone = (handle: string) => facts.valid !== undefined && !facts.valid.has(handle);
  const verdict = decide(stored, record, liveState(facts, ip), isGone);
  const place = {
    address: ip.text,
    cidr: spec?.cidr ?? ip.text,
    ordinal: spec === undefined ? 0 : placeOf(ip.text, spec.cidr).ordinal,
  };
  const keepsRecord =
    (verdict.do === 'give' && record?.type === 'give' && record.handle === verdict.handle) || verdict.do === 'release';
  if (record !== undefined && !keepsRecord) {
    // The block has (or never will have) what it says, but the crash may have come before the handle was counted down.
    journal.append([{ type: 'intent', handle: record.handle }]);
    deps.compareCounts(record.handle);
    journal.forget(record);
  }
  switch (verdict.do) {
    case 'keep':
      if (stored.is === 'reserve' && !found.isOwn && allocation !== undefined) {
        ledger.returnToBlock(allocation); // The block is not ours any more: nothing to hold in reserve there.
      }
      return;
    case 'release': {
      const handle = record?.handle ?? allocation?.handle ?? '';
      if (record === undefined) {
        // Nobody journalled this release: after a crash between block and handle nothing else would count the handle down.
        journal.append([{ type: 'intent', handle }]);
        deps.compareCounts(handle);
      }
      ledger.decide({ state: 'released', ...place, handle, sequence: String(allocation?.sequence), record });
      return;
    }
    case 'quarantine':
      deps.log(
        'warn',
        `${ip.text} is in use on this node by something unknown; it is kept out of use until garbage collection`,
      );
      ledger.decide({ state: 'quarantined', ...place });
      return;
    case 'dispute':
      dispute(deps, facts, found);
      return;
    case 'give': {
      const attributes = attributesOf(verdict.handle, nodeName, record, allocation, facts.live.get(ip.text));
      const owner = { handle: verdict.handle, attributes };
      if (stored.is === 'none') {
        await assignLive(deps, found, owner);
        return;
      }
      const from = allocation && { handle: allocation.handle, sequence: String(allocation.sequence) };
      if (stored.is === 'owned') {
        deps.log(
          'warn',
          `${ip.text} was recorded for handle ${stored.handle}, but handle ${verdict.handle} uses it: it is recorded so now`,
        );
      }
      ledger.decide({ state: 'given', ...place, owner, from, record: keepsRecord ? record : undefined });
      return;
    }
  }
}

/** A pod has an address that no block records (or nobody's block): take it, if that is still possible. */
async function assignLive(deps: ReconcileDeps, found: Found, owner: BlockOwner): Promise<void> {
  const address = found.ip.text;
  try {
    const assigned = await deps.assignExact(address, owner);
    if (!deps.blocks.holds(assigned.cidr)) {
      deps.ledger.borrow({
        ...placeOf(address, assigned.cidr),
        ...owner,
        sequence: assigned.sequence,
        releasedAt: undefined,
      });
    }
  } catch (error) {
    if (error instanceof IpamError && error.code === 'not-in-pool') {
      return; // From another program's IPAM: none of ours.
    }
    deps.log(
      'error',
      `${address} is used by handle ${owner.handle} on this node, but can't be recorded: ${messageOf(error)}`,
    );
  }
}

function dispute({ ledger, log, nodeName }: ReconcileDeps, facts: NodeFacts, { ip, spec, allocation }: Found): void {
  const live = facts.live.get(ip.text);
  if (live === undefined || spec === undefined) {
    return;
  }
  const holder =
    allocation === undefined
      ? 'a pod that released it'
      : `handle ${allocation.handle} on node ${allocation.attributes['node']}`;
  log(
    'error',
    `${ip.text} is used by handle ${live.handle} on this node, but IPAMBlock ${spec.cidr} says it is ${holder}'s; delete one of the pods`,
  );
  const owner = { handle: live.handle, attributes: { ...live.attributes, node: nodeName } };
  ledger.decide({ state: 'disputed', ...placeOf(ip.text, spec.cidr), owner });
}

function liveState(facts: NodeFacts, ip: Ip): LiveState {
  return facts.live.has(ip.text) ? (facts.live.get(ip.text) ?? 'unknown') : undefined;
}

function attributesOf(
  handle: string,
  nodeName: string,
  record: AddressRecord | undefined,
  allocation: AddressAllocation | undefined,
  live: { readonly attributes?: Readonly<Record<string, string>> } | undefined,
): Readonly<Record<string, string>> {
  const journalled = record?.type === 'give' && record.handle === handle ? record.attributes : undefined;
  const stored = allocation?.handle === handle ? allocation.attributes : undefined;
  return { ...(journalled ?? stored ?? live?.attributes), node: nodeName };
}
