import type {
  DataplaneFlows,
  Flow,
  FlowDeletion,
  FlowExportItem,
  FlowFilter,
  FlowImportReport,
  FlowScope,
  FlowTableStats,
} from '../flows.ts';

/** Flows are being taken over from the other dataplane, or handed over to it. */
export type Handover = 'in' | 'out';

/** What is in use. */
interface FlowMaps {
  readonly flows: DataplaneFlows;
  /** Whether all flows are in its maps: none stand in former ones any more. */
  readonly hasAllFlows: boolean;
  /** Takes over those that stand in former ones. */
  carryFlows(when: 'before'): Promise<void>;
}

export interface LoadedFlowsDeps {
  /** What is in use; undefined: nothing. */
  readonly loaded: () => FlowMaps | undefined;
  /** Does it when nothing replaces or fills what is in use, which begins only when it has ended. */
  readonly inTurn: <Result>(work: () => Promise<Result>) => Promise<Result>;
  /** Flows begin and end to be taken over, or begin to be handed over for good: that ends with the dataplane. */
  readonly onHandover: (handover: Handover | undefined) => void;
  /** `areTold` isn't true any more. */
  readonly onTold: () => void;
}

const notCarried =
  'nothing is deleted yet: flows still stand in former BPF maps, from where they would come back. They are taken over when the programs on the maps in use ' +
  'are entered; "tortie status" says what keeps them from that. Ask again then';
const replaced =
  'other BPF maps have taken the place of those in which flows were deleted: some may have been carried into these before. Ask again';

/**
 * The flows of a dataplane whose maps may not be open (then every question is an error, `code` `NOT_LOADED`), and may get others in their place: while these
 * are being filled, they have no flows yet. What must find all waits for its turn.
 */
export class LoadedFlows implements DataplaneFlows {
  readonly #deps: LoadedFlowsDeps;
  /** Exports under way, but for those for good. */
  #telling = 0;

  constructor(deps: LoadedFlowsDeps) {
    this.#deps = deps;
  }

  /** Undefined while nothing is loaded. */
  get stats(): FlowTableStats | undefined {
    return this.#deps.loaded()?.flows.stats;
  }

  /** Flows are being told, of maps that must stay open for it. */
  get areTold(): boolean {
    return this.#telling > 0;
  }

  list(filter: FlowFilter): AsyncIterable<readonly Flow[]> {
    return this.#maps.flows.list(filter);
  }

  async delete(filter: FlowFilter): Promise<FlowDeletion> {
    const { loaded, inTurn } = this.#deps;
    const maps = await inTurn(() => {
      const inUse = this.#maps;
      return Promise.resolve(inUse.hasAllFlows ? inUse : undefined);
    });
    if (maps === undefined) return { deleted: 0, failed: [notCarried] };
    const { deleted, failed } = await maps.flows.delete(filter);
    const areOthers = loaded() !== undefined && loaded() !== maps;
    return { deleted, failed: areOthers ? [...failed, replaced] : failed };
  }

  async *exportFlows(scope: FlowScope, signal: AbortSignal): AsyncGenerator<FlowExportItem, void, undefined> {
    const { inTurn, onHandover, onTold } = this.#deps;
    const isLeaving = scope.isLeaving === true;
    const flows = await inTurn(async () => {
      const maps = this.#maps;
      // They have not been entered yet: what packets meet are the former ones.
      if (!maps.hasAllFlows) await maps.carryFlows('before');
      if (isLeaving) onHandover('out');
      else this.#telling += 1;
      return maps.flows;
    });
    try {
      yield* flows.exportFlows(scope, signal);
    } finally {
      if (!isLeaving) {
        this.#telling -= 1;
        if (!this.areTold) onTold();
      }
    }
  }

  async importFlows(
    items: AsyncIterable<FlowExportItem>,
    scope: FlowScope,
    onWhole?: (report: FlowImportReport) => void,
  ): Promise<FlowImportReport> {
    const { flows } = this.#maps;
    const { onHandover } = this.#deps;
    onHandover('in');
    try {
      return await flows.importFlows(items, scope, onWhole);
    } finally {
      onHandover(undefined);
    }
  }

  get #maps(): FlowMaps {
    const maps = this.#deps.loaded();
    if (maps !== undefined) return maps;
    throw Object.assign(new Error('the BPF programs are not loaded: there are no flows'), { code: 'NOT_LOADED' });
  }
}
