import { Counter, Gauge, Registry, Summary } from '@prometheus-io/client';
import type { Service } from '../http/configured-server.ts';
import { metricTable, type MetricInfo, type MetricName } from './metric-table.ts';

/** A value with its labels. */
export interface Sample {
  readonly value: number;
  readonly labels?: Readonly<Record<string, string>>;
}

type NamesOf<T extends MetricInfo['type']> = {
  [N in MetricName]: (typeof metricTable)[N]['type'] extends T ? N : never;
}[MetricName];

/** Gives all samples of one metric, as they are now. */
type Reader = () => readonly Sample[] | Promise<readonly Sample[]>;

/**
 * The agent's metrics: those of the table, no others. Events are counted where they happen (`add`, `observe`); what can be read at any time
 * is read when somebody scrapes (`read`), so that it costs nothing in between and can't be out of date.
 */
export class Metrics {
  readonly #registry = new Registry();
  readonly #metrics = new Map<string, Counter<string> | Gauge<string> | Summary<string>>();
  readonly #readers = new Map<'gauge' | 'counter', Map<string, Reader>>([
    ['gauge', new Map()],
    ['counter', new Map()],
  ]);

  constructor() {
    for (const [name, info] of Object.entries<MetricInfo>(metricTable)) {
      const common = { name, help: info.help, labelNames: [...(info.labels ?? [])], registers: [this.#registry] };
      const metric =
        info.type === 'gauge'
          ? new Gauge(common)
          : info.type === 'counter'
            ? new Counter(common)
            : new Summary({ ...common, percentiles: [0.5, 0.9, 0.99], maxAgeSeconds: 60, ageBuckets: 5 });
      this.#metrics.set(name, metric);
    }
  }

  /** Counts events. */
  add(name: NamesOf<'counter'>, amount = 1, labels: Readonly<Record<string, string>> = {}): void {
    (this.#metrics.get(name) as Counter<string>).inc(labels, amount);
  }

  /** One more observation. */
  observe(name: NamesOf<'summary'>, value: number, labels: Readonly<Record<string, string>> = {}): void {
    (this.#metrics.get(name) as Summary<string>).observe(labels, value);
  }

  /** Where the metric's values come from at each scrape; of a counter these are totals. */
  read(name: NamesOf<'gauge' | 'counter'>, reader: Reader): void {
    const { type } = metricTable[name];
    this.#readers.get(type)?.set(name, reader);
  }

  /** The text that Prometheus reads. */
  async text(): Promise<string> {
    for (const [name, reader] of this.#readers.get('gauge') ?? []) {
      const gauge = this.#metrics.get(name) as Gauge<string>;
      const samples = await reader();
      gauge.reset();
      for (const { value, labels = {} } of samples) gauge.set(labels, value);
    }
    for (const [name, reader] of this.#readers.get('counter') ?? []) {
      const counter = this.#metrics.get(name) as Counter<string>;
      const samples = await reader();
      counter.reset();
      for (const { value, labels = {} } of samples) counter.inc(labels, value);
    }
    return this.#registry.metrics();
  }
}

/** Serves `/metrics`. */
export function metricsService(metrics: Metrics): Service {
  return {
    name: 'metrics server',
    settings: 'prometheusMetricsPort or prometheusMetricsHost',
    answer: ({ url }, response) => {
      if (url !== '/metrics') {
        response.writeHead(404).end('try /metrics\n');
        return;
      }
      metrics.text().then(
        (text) => response.writeHead(200, { 'content-type': 'text/plain; version=0.0.4; charset=utf-8' }).end(text),
        (error: unknown) => response.writeHead(500).end(`${error instanceof Error ? error.message : String(error)}\n`),
      );
    },
  };
}
