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

/** The flows of a dataplane whose maps may not be open: then every question is an error (`code` `NOT_LOADED`). */
export class LoadedFlows implements DataplaneFlows {
  readonly #source: () => DataplaneFlows | undefined;
  readonly #onHandover: (handover: Handover | undefined) => void;

  /** `onHandover` is told when flows begin and end to be taken over, and when they begin to be handed over for good: that ends with the dataplane. */
  constructor(source: () => DataplaneFlows | undefined, onHandover: (handover: Handover | undefined) => void) {
    this.#source = source;
    this.#onHandover = onHandover;
  }

  /** Undefined while nothing is loaded. */
  get stats(): FlowTableStats | undefined {
    return this.#source()?.stats;
  }

  list(filter: FlowFilter): AsyncIterable<readonly Flow[]> {
    return this.#flows.list(filter);
  }

  delete(filter: FlowFilter): Promise<FlowDeletion> {
    return this.#flows.delete(filter);
  }

  exportFlows(scope: FlowScope, signal: AbortSignal): AsyncIterable<FlowExportItem> {
    const flows = this.#flows;
    if (scope.isLeaving === true) this.#onHandover('out');
    return flows.exportFlows(scope, signal);
  }

  async importFlows(
    items: AsyncIterable<FlowExportItem>,
    scope: FlowScope,
    onWhole?: (report: FlowImportReport) => void,
  ): Promise<FlowImportReport> {
    const flows = this.#flows;
    this.#onHandover('in');
    try {
      return await flows.importFlows(items, scope, onWhole);
    } finally {
      this.#onHandover(undefined);
    }
  }

  get #flows(): DataplaneFlows {
    const flows = this.#source();
    if (flows !== undefined) return flows;
    throw Object.assign(new Error('the BPF programs are not loaded: there are no flows'), { code: 'NOT_LOADED' });
  }
}
