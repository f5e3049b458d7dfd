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

type ReadName = NamesOf<'gauge' | 'counter'>;

/** Gives all samples of one metric, as they are now. */
type Reader = () => readonly Sample[] | Promise<readonly Sample[]>;

/**
 * The agent's metrics: those of the table, no others. Events are counted where they happen (`add`, `observe`); what can be read at any time
 * is read when somebody scrapes (`read`), so that it costs nothing in between and can't be out of date.
 */
export class Metrics {
  readonly #registry = new Registry();
  readonly #metrics = new Map<string, Counter<string> | Gauge<string> | Summary<string>>();
  readonly #readers = new Map<ReadName, Reader>();
  #scrape: Promise<string> | undefined;

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
  read(name: ReadName, reader: Reader): void {
    this.#readers.set(name, reader);
  }

  /** The text that Prometheus reads. Who asks while another is being answered gets the same answer: some values cost a process each. */
  text(): Promise<string> {
    this.#scrape ??= this.#readAll().finally(() => {
      this.#scrape = undefined;
    });
    return this.#scrape;
  }

  /** What can't be read is left out and said, so that the others are seen when something is wrong: that is when they are needed. */
  async #readAll(): Promise<string> {
    const unread: string[] = [];
    for (const [name, reader] of this.#readers) {
      try {
        this.#replace(name, await reader());
      } catch (error) {
        this.#replace(name, []);
        this.add('tortie_metric_read_failures_total', 1, { metric: name });
        const reason = error instanceof Error ? error.message : String(error);
        unread.push(`# ${name} can't be read: ${reason.replaceAll(/\s+/g, ' ')}\n`);
      }
    }
    return `${await this.#registry.metrics()}${unread.join('')}`;
  }

  #replace(name: ReadName, samples: readonly Sample[]): void {
    const metric = this.#metrics.get(name) as Counter<string> | Gauge<string>;
    metric.reset();
    // A metric without labels is 0 after that, which is a value: what is not known must not be shown as one.
    if (samples.length === 0) metric.remove({});
    for (const { value, labels = {} } of samples) metric.inc(labels, value);
  }
}

/** Serves `/metrics`. */
export function metricsService(metrics: Metrics): Service {
  return {
    name: 'metrics server',
    settings: 'prometheusMetricsPort or prometheusMetricsHost',
    answer: ({ url }, response) => {
      if (url?.split('?')[0] !== '/metrics') {
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
