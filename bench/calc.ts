/**
 * `make bench-calc`: the calculation alone, with 10,000 endpoints in the cluster (1,000 of them on this node) and 1,000 policies, and with 10,000 Services
 * of 10 endpoints; with V8 as it comes and as `felix-agent/tortie.sh` runs it. Prints a table, and writes build/bench/calc.json.
 * With the argument `measure` or `services` it is one such run, and writes its figures to standard output.
 */
import { execFileSync } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { measure, type CalcFigures } from './calc/measure.ts';
import { measureServices, type ServiceFigures } from './calc/services.ts';
import { machine, printTable } from './lib/report.ts';

/** V8's flags in production (felix-agent/tortie.sh). */
const productionFlags = ['--max-semi-space-size=1', '--optimize-for-size', '--no-opt'];

if (process.argv[2] === 'measure') {
  console.log(JSON.stringify(measure()));
} else if (process.argv[2] === 'services') {
  console.log(JSON.stringify(measureServices()));
} else {
  type Figures = CalcFigures & { readonly services: ServiceFigures };
  const run = (flags: readonly string[]): Figures => {
    const args = ['--expose-gc', '--disable-warning=ExperimentalWarning', ...flags, fileURLToPath(import.meta.url)];
    const figures = (part: string): unknown =>
      JSON.parse(execFileSync(process.execPath, [...args, part], { encoding: 'utf8' }));
    return { ...(figures('measure') as CalcFigures), services: figures('services') as ServiceFigures };
  };
  const results = { machine: machine(), production: run(productionFlags), plain: run([]) };
  const row = (name: string, cell: (figures: Figures) => string) => [
    name,
    cell(results.production),
    cell(results.plain),
  ];
  const us = (pick: (figures: Figures) => { readonly p50: number; readonly p99: number }) => (figures: Figures) =>
    `${pick(figures).p50.toFixed(0)} / ${pick(figures).p99.toFixed(0)}`;
  console.log(results.machine);
  printTable([
    ['', 'as in production', 'V8 as it comes'],
    row('build from all objects, first flush, ms', ({ buildMs }) => buildMs.toFixed(0)),
    row(
      'label change of a local endpoint, p50 / p99, us',
      us(({ localLabel }) => localLabel),
    ),
    row(
      'label change of a remote endpoint, p50 / p99, us',
      us(({ remoteLabel }) => remoteLabel),
    ),
    row(
      'a policy comes or goes, p50 / p99, us',
      us(({ policyChange }) => policyChange),
    ),
    row(
      'label change of a namespace (100 endpoints), p50 / p99, us',
      us(({ namespaceLabel }) => namespaceLabel),
    ),
    row(
      'one member of a set of 100,000 changes, p50 / p99, us',
      us(({ bigSet }) => bigSet),
    ),
    row('memory of calc per endpoint, bytes', ({ bytesPerEndpoint }) => bytesPerEndpoint.toFixed(0)),
    row('memory of the objects per endpoint, bytes', ({ objectBytesPerEndpoint }) => objectBytesPerEndpoint.toFixed(0)),
    row('10,000 Services of 10 endpoints, first flush, ms', ({ services }) => services.buildMs.toFixed(0)),
    row(
      'an endpoint of a Service of 10 changes, p50 / p99, us',
      us(({ services }) => services.endpointChange),
    ),
    row(
      'an endpoint of a Service of 5,000 changes, p50 / p99, us',
      us(({ services }) => services.bigServiceChange),
    ),
    row('memory of calc per backend of a Service, bytes', ({ services }) => services.bytesPerBackend.toFixed(0)),
    row('memory of the objects per backend, bytes', ({ services }) => services.objectBytesPerBackend.toFixed(0)),
  ]);
  mkdirSync('build/bench', { recursive: true });
  writeFileSync('build/bench/calc.json', `${JSON.stringify(results, null, 2)}\n`);
  console.log('\nwritten to build/bench/calc.json');
}
