import type { FlowDeletion, FlowFilter, Flow } from '../../flows.ts';
import type { Logger } from '../../logger.ts';
import type { IpText } from '../../messages.ts';

/** What is needed to forget flows of datagrams that lead to nobody any more. */
export interface StaleDatagramsDeps {
  /** Which addresses to look at, and whether a flow there is stale: `ServiceTable`. */
  readonly services: {
    takeLeft(): readonly IpText[];
    putBackLeft(addresses: readonly IpText[]): void;
    isStale(flow: Flow): boolean;
  };
  readonly flows: { delete(filter: FlowFilter, isMeant: (flow: Flow) => boolean): Promise<FlowDeletion> };
  /** Until no packet is under way that knows what was in force before. */
  readonly grace: () => Promise<void>;
  readonly log: Pick<Logger, 'warn'>;
}

const UDP = 17;

/**
 * Forgets the flows of datagrams whose backend serves no more, or whose service has gone, at the addresses where that may be so by now. What could
 * not be done is to be done with the next call. Rejects as `grace` and `delete` do.
 */
export async function forgetStaleDatagrams({ services, flows, grace, log }: StaleDatagramsDeps): Promise<void> {
  const addresses = services.takeLeft();
  if (addresses.length === 0) return;
  let isDone = false;
  try {
    await grace();
    const { failed } = await flows.delete({ addresses, protocol: UDP }, (flow) => services.isStale(flow));
    isDone = failed.length === 0;
    if (!isDone) log.warn('datagrams may go to pods that serve no more', { reason: failed.join('; ') });
  } finally {
    if (!isDone) services.putBackLeft(addresses);
  }
}
