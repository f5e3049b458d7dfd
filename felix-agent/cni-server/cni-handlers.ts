import type { CniAnswer, CniDeps, CniRequest } from '#cni/deps.ts';
import { refusal, runCni } from '#cni/dispatcher.ts';
import { CniError, cniCode } from '#cni/errors.ts';

/** The verbs that look at what an earlier agent left: they can't be answered before the takeover. */
const lateVerbs = new Set(['DEL', 'CHECK', 'GC']);

/**
 * The plugin inside the agent. Before the takeover is done, DEL, CHECK and GC are told to try again: an endpoint that isn't known yet
 * would look like one that is gone. ADD and STATUS find the reason by themselves, in `notReadyReason`.
 */
export class CniHandlers {
  readonly #deps: CniDeps;
  #isOpen = false;

  constructor(deps: CniDeps) {
    this.#deps = deps;
  }

  /** From now on every verb is answered. */
  open(): void {
    this.#isOpen = true;
  }

  async answer(request: CniRequest): Promise<CniAnswer> {
    if (this.#isOpen || !lateVerbs.has(request.env['CNI_COMMAND'] ?? '')) return runCni(request, this.#deps);
    const reason = (await this.#deps.notReadyReason()) ?? 'the agent is starting';
    const error = new CniError(
      cniCode.tryAgain,
      `node ${this.#deps.nodeName}: not ready for ${request.env['CNI_COMMAND']} yet: ${reason}`,
    );
    return refusal(request, error);
  }
}
