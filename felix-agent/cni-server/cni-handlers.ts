import type { CniAnswer, CniDeps, CniRequest } from '#cni/deps.ts';
import { runCni } from '#cni/dispatcher.ts';
import { CniError, cniCode, renderError } from '#cni/errors.ts';
import { LATEST_CNI_VERSION } from '#cni/versions.ts';

/** The verbs that look at nothing that an earlier agent left: they can be answered before the takeover. */
const earlyVerbs = new Set(['VERSION', 'STATUS', 'ADD']);

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
    if (this.#isOpen || earlyVerbs.has(request.env['CNI_COMMAND'] ?? '')) return runCni(request, this.#deps);
    const reason = (await this.#deps.notReadyReason()) ?? 'the agent is starting';
    const error = new CniError(
      cniCode.tryAgain,
      `node ${this.#deps.nodeName}: not ready for ${request.env['CNI_COMMAND']} yet: ${reason}`,
    );
    return { exitCode: 1, stdout: renderError(error, LATEST_CNI_VERSION) };
  }
}
