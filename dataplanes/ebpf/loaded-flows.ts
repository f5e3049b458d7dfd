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

/** The flows of a dataplane whose maps may not be open: then every question is an error (`code` `NOT_LOADED`). */
export class LoadedFlows implements DataplaneFlows {
  readonly #source: () => DataplaneFlows | undefined;
  readonly #onImport: (isRunning: boolean) => void;

  /** `onImport` is told when flows begin and end to be taken over. */
  constructor(source: () => DataplaneFlows | undefined, onImport: (isRunning: boolean) => void) {
    this.#source = source;
    this.#onImport = onImport;
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
    return this.#flows.exportFlows(scope, signal);
  }

  async importFlows(
    items: AsyncIterable<FlowExportItem>,
    scope: FlowScope,
    onWhole?: (report: FlowImportReport) => void,
  ): Promise<FlowImportReport> {
    const flows = this.#flows;
    this.#onImport(true);
    try {
      return await flows.importFlows(items, scope, onWhole);
    } finally {
      this.#onImport(false);
    }
  }

  get #flows(): DataplaneFlows {
    const flows = this.#source();
    if (flows !== undefined) return flows;
    throw Object.assign(new Error('the BPF programs are not loaded: there are no flows'), { code: 'NOT_LOADED' });
  }
}
