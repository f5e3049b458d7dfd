import type { ServiceIdentifier } from 'inversify';
import type { Metrics } from './metrics.ts';

/** The process' metrics: one of them, in which everything counts. */
export const MetricsId: ServiceIdentifier<Metrics> = Symbol.for('Metrics');
