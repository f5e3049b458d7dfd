/** What every implementation of `Ipam` does with requests, results and errors. */
import { parseIp, type Family, type Ip } from '#api/cidr.ts';
import { messageOf } from '#api/errors.ts';
import type { BlockOwner } from './block.ts';
import { IpamError, type AllocationOwner, type Assignment, type AutoAssignRequest } from './ipam.ts';
import type { PoolRequest } from './pools.ts';

/** The owner as it is stored: the node is always part of it, because garbage collection goes by it. */
export function ownerOf(request: AllocationOwner, nodeName: string): BlockOwner {
  if (request.handle === '') {
    throw new IpamError('bad-request', 'an address was asked for under an empty handle');
  }
  return { handle: request.handle, attributes: { ...request.attributes, node: nodeName } };
}

/** The families asked for, IPv4 first; throws `bad-request` when there is none. */
export function wantedFamilies(request: AutoAssignRequest): readonly Family[] {
  const families: Family[] = [...(request.want4 ? [4 as const] : []), ...(request.want6 ? [6 as const] : [])];
  if (families.length === 0) {
    throw new IpamError('bad-request', `handle ${request.handle} asked for an address of neither family`);
  }
  return families;
}

/** The part of a request that chooses pools of one family. */
export function poolRequest(request: AutoAssignRequest, family: Family): PoolRequest {
  return { requested: family === 4 ? request.pools4 : request.pools6, namespace: request.namespace };
}

/** Parses addresses asked for; throws `bad-request`. */
export function parseRequested(addresses: readonly string[]): readonly Ip[] {
  return addresses.map((text) => {
    try {
      return parseIp(text);
    } catch (cause) {
      throw new IpamError(
        'bad-request',
        `an address asked for ${cause instanceof Error ? cause.message : String(cause)}`,
        { cause },
      );
    }
  });
}

/** The result for these addresses: with full prefix lengths, IPv4 first. */
export function assignmentOf(addresses: readonly string[]): Assignment {
  const isV6 = (address: string) => address.includes(':');
  const sorted = [...addresses.filter((address) => !isV6(address)), ...addresses.filter(isV6)];
  return { addresses: sorted.map((address) => `${address}/${isV6(address) ? 128 : 32}`) };
}

/** The failure of a request whose other parts were taken back; if that failed too, it is `unavailable`, and both are said. */
export async function afterUndo(failure: unknown, undoing: Promise<void>): Promise<unknown> {
  try {
    await undoing;
    return failure;
  } catch (error) {
    const message = `${messageOf(failure)}; releasing what was assigned before failed too: ${messageOf(error)}`;
    return new IpamError('unavailable', message, { cause: failure });
  }
}

/** Every failure as an `IpamError`: what the datastore refuses for now is `unavailable`. */
export function asIpamError(error: unknown): IpamError {
  if (error instanceof IpamError) {
    return error;
  }
  return new IpamError('unavailable', messageOf(error), { cause: error });
}
