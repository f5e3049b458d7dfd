import type { ServiceIdentifier } from 'inversify';
import type { Clock } from '#api/clock.ts';
import type { Service } from '../http/configured-server.ts';

/** What the two probes answer: true, or every reason why not. */
export interface HealthReport {
  readonly ok: boolean;
  readonly reasons: readonly string[];
}

/** Liveness and readiness of named parts. One with a beat is dead when it has been silent for that long. */
export interface Health {
  /**
   * `notReady` is asked at each question: why the part is not ready; empty if it is. `beatMs`: it must beat at least that often, or liveness fails
   * (a hung loop).
   */
  register(name: string, notReady: () => readonly string[], options?: { readonly beatMs?: number }): HealthReporter;
  readiness(): HealthReport;
  liveness(): HealthReport;
}
export const Health: ServiceIdentifier<Health> = Symbol.for('Health');

/** One part's pulse. */
export interface HealthReporter {
  beat(): void;
}

export class HealthAggregator implements Health {
  readonly #clock: Clock;
  readonly #reporters = new Map<
    string,
    { readonly notReady: () => readonly string[]; readonly beatMs: number | undefined; lastBeat: number }
  >();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  register(
    name: string,
    notReady: () => readonly string[],
    { beatMs }: { readonly beatMs?: number } = {},
  ): HealthReporter {
    const state = { notReady, beatMs, lastBeat: this.#clock.now() };
    this.#reporters.set(name, state);
    return {
      beat: () => {
        state.lastBeat = this.#clock.now();
      },
    };
  }

  readiness(): HealthReport {
    const reasons = [...this.#reporters.values()].flatMap(({ notReady }) => notReady());
    return { ok: reasons.length === 0, reasons };
  }

  liveness(): HealthReport {
    const now = this.#clock.now();
    const reasons = [...this.#reporters]
      .filter(([, { beatMs, lastBeat }]) => beatMs !== undefined && now - lastBeat > beatMs)
      .map(([name, { lastBeat }]) => `${name}: silent for ${Math.round((now - lastBeat) / 1000)} s`);
    return { ok: reasons.length === 0, reasons };
  }
}

/** Serves `/liveness` and `/readiness`: 200 or 503, the reasons as text. */
export function healthService(health: Health): Service {
  return {
    name: 'health server',
    settings: 'healthPort or healthHost',
    answer: ({ url }, response) => {
      const report = url === '/liveness' ? health.liveness() : url === '/readiness' ? health.readiness() : undefined;
      if (report === undefined) {
        response.writeHead(404).end('try /liveness or /readiness\n');
        return;
      }
      response.writeHead(report.ok ? 200 : 503, { 'content-type': 'text/plain; charset=utf-8' });
      response.end(report.ok ? 'ok\n' : `${report.reasons.join('\n')}\n`);
    },
  };
}
