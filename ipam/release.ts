import type { Clock } from '#api/clock.ts';
import { tryParseIp } from '#api/cidr.ts';
import type { Datastore } from '#datastore/datastore.ts';
import { addressesIn, isReserveOf, type AddressAllocation } from './allocations.ts';
import { releaseOrdinals } from './block.ts';
import { writeEdits } from './block-store.ts';
import { Handles } from './handles.ts';
import { IpamError } from './ipam.ts';
import { addressUsers } from './report.ts';

/**
 * `tortie ipam release`: frees one address, or all of a handle, wherever it is. What a pod or endpoint uses, or a node's agent holds in
 * reserve, is refused with `taken` unless forced; nothing to release is `bad-request`. Returns the addresses released.
 */
export async function releaseByHand(
  datastore: Datastore,
  clock: Clock,
  target: string,
  options: { readonly force: boolean },
): Promise<readonly string[]> {
  const address = tryParseIp(target)?.text;
  const blocks = (await datastore.list('IPAMBlock')).items.filter((block) => !block.spec.deleted);
  const chosen = blocks
    .flatMap(({ spec }) => addressesIn(spec))
    .filter((allocation) => (address === undefined ? allocation.handle === target : allocation.address === address));
  const handles = new Handles(datastore);
  const counts = address === undefined ? await handles.counts(target) : undefined;
  if (chosen.length === 0 && counts === undefined) {
    const what = address === undefined ? `handle ${target} has no address` : `${address} is not allocated`;
    throw new IpamError('bad-request', `${what}: there is nothing to release`);
  }
  if (!options.force) {
    await refuseUsed(datastore, chosen);
  }
  const cooldownSeconds = (await datastore.get('IPAMConfiguration', { name: 'default' }))?.spec.ipCooldownSeconds ?? 0;
  const released = await Promise.all(
    chosen.map((allocation) => release(datastore, { now: clock.now(), cooldownSeconds }, allocation)),
  );
  const gone = released.filter((allocation) => allocation !== undefined);
  for (const { handle, cidr } of gone) {
    if (handle !== undefined && address !== undefined) {
      await handles.add(handle, cidr, -1);
    }
  }
  if (address === undefined) {
    await handles.drop(target, [...Object.keys(counts ?? {}), ...gone.map(({ cidr }) => cidr)]);
  }
  return gone.map((allocation) => allocation.address);
}

async function refuseUsed(datastore: Datastore, chosen: readonly AddressAllocation[]): Promise<void> {
  const [pods, endpoints] = await Promise.all([datastore.list('Pod'), datastore.list('WorkloadEndpoint')]);
  const users = addressUsers(pods.items, endpoints.items);
  for (const allocation of chosen) {
    const user = isReserveOf(allocation)
      ? `node ${allocation.attributes['node']} holds it ready for its next pod; its agent returns it when it shuts down`
      : users.get(allocation.address)?.join(' and ');
    if (user !== undefined) {
      throw new IpamError(
        'taken',
        `${allocation.address} is in use: ${user}. Releasing it would let two pods have it; force it only if that is not true`,
      );
    }
  }
}

/** Only that very allocation: what was released and given again since stays. */
async function release(
  datastore: Datastore,
  cooling: { readonly now: number; readonly cooldownSeconds: number },
  allocation: AddressAllocation,
): Promise<AddressAllocation | undefined> {
  const written = await writeEdits(
    datastore,
    allocation.cidr,
    undefined,
    [
      (spec) => {
        const now = addressesIn(spec).find(({ ordinal }) => ordinal === allocation.ordinal);
        const isSame =
          now !== undefined && now.handle === allocation.handle && String(now.sequence) === String(allocation.sequence);
        return { spec: isSame ? releaseOrdinals(spec, [allocation.ordinal], cooling) : spec, result: isSame };
      },
    ],
    () => cooling,
  );
  return written?.results[0] === true ? allocation : undefined;
}
