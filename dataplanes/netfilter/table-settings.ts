import type { DataplaneConfig } from '../messages.ts';

/** Settings of a table's driver; they may change while it runs. */
export interface TableSettings {
  /** How long the tools may wait for the xtables lock, in seconds; 0: as long as it takes. */
  readonly lockTimeoutS: number;
  /** Compare with the kernel this often, in milliseconds; 0: only after writes and on request. */
  readonly refreshIntervalMs: number;
  /** The first comparison after a write; each further one waits twice as long, up to the refresh interval. */
  readonly postWriteCheckMs: number;
  /** Where the jumps stand in the kernel's chains: before or after what others have there. */
  readonly insertMode: 'insert' | 'append';
}

/** A table driver's part of the configuration. */
export function settingsOf(config: DataplaneConfig): TableSettings {
  return {
    lockTimeoutS: config.iptablesLockTimeoutS,
    refreshIntervalMs: config.iptablesRefreshIntervalMs,
    postWriteCheckMs: config.iptablesPostWriteCheckIntervalMs,
    insertMode: config.chainInsertMode,
  };
}
