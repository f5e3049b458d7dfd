import type { EndpointId } from '#dataplanes/messages.ts';

interface Waiter {
  readonly id: EndpointId;
  readonly resolve: () => void;
}

/**
 * Those who wait for an endpoint to be in the kernel. A cycle can only answer for what was pushed before it began, so `begin` takes
 * those present and `settle` answers just them; the ones whose endpoint failed wait on for a later cycle.
 */
export class EndpointWaiters {
  #waiting = new Set<Waiter>();

  wait(id: EndpointId, signal: AbortSignal, lastFailure: () => string | undefined): Promise<void> {
    return new Promise((resolve, reject) => {
      const onAbort = () => {
        this.#waiting.delete(waiter);
        const why = lastFailure() ?? 'the dataplane has not answered yet';
        reject(new Error(`endpoint ${id} is not in the kernel: ${why}`, { cause: signal.reason }));
      };
      const waiter: Waiter = {
        id,
        resolve: () => {
          signal.removeEventListener('abort', onAbort);
          resolve();
        },
      };
      if (signal.aborted) {
        onAbort();
        return;
      }
      this.#waiting.add(waiter);
      signal.addEventListener('abort', onAbort, { once: true });
    });
  }

  begin(): readonly Waiter[] {
    return [...this.#waiting];
  }

  settle(waiters: readonly Waiter[], isProgrammed: (id: EndpointId) => boolean): void {
    for (const waiter of waiters) {
      if (!this.#waiting.has(waiter) || !isProgrammed(waiter.id)) continue;
      this.#waiting.delete(waiter);
      waiter.resolve();
    }
  }
}
