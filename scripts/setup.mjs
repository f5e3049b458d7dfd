// @ts-check
// Makes this machine ready: Debian packages and node_modules, as far as they are missing. Node 20 runs it with nothing
// installed. It says what it does; run again, it finds nothing to do and touches no network. How: docs/design/setup.md.
import { dirname } from 'node:path';
import { fileURLToPath } from 'node:url';
import { packagesFor } from './packages.mjs';
import { installPackages, missingPackages } from './setup/debian.mjs';
import { readFacts } from './setup/facts.mjs';
import { installModules, modulesDifference } from './setup/modules.mjs';
import { distributionOf, nameOf, problemsOf, unproved } from './setup/requirements.mjs';

const USAGE = `usage: npm run setup [-- --for-tests] [--for-kernels]
  --for-tests     also what the tests and \`make check\` need
  --for-kernels   also what \`make test-kernels\` needs`;
/** @type {ReadonlyMap<string, import('./packages.mjs').Need>} */
const FLAGS = new Map([
  ['--for-tests', 'tests'],
  ['--for-kernels', 'kernels'],
]);
const root = dirname(dirname(fileURLToPath(import.meta.url)));

async function main() {
  const args = process.argv.slice(2);
  const unknown = args.find((arg) => !FLAGS.has(arg));
  if (unknown !== undefined) {
    console.error(`setup: unknown argument ${unknown}\n${USAGE}`);
    return 2;
  }
  const needs = args.flatMap((arg) => FLAGS.get(arg) ?? []);
  const facts = readFacts();
  const problems = problemsOf(facts, needs.includes('tests'));
  if (problems.length > 0) {
    console.error(`setup: this machine is not ready for Tortie, and nothing was changed. Missing:`);
    for (const problem of problems) console.error(`  - ${problem}`);
    return 1;
  }
  console.log(`setup: ${nameOf(facts)}, ${facts.cpu}, kernel ${facts.kernel}, Node ${facts.node}`);
  const warning = unproved(facts);
  if (warning !== undefined) console.log(`  note: ${warning}`);

  const packages = packagesFor(distributionOf(facts), needs);
  const missing = missingPackages(packages);
  if (missing.length === 0) {
    console.log(`setup: Debian packages: all ${packages.length} there`);
  } else {
    console.log(
      `setup: Debian packages: ${missing.length} of ${packages.length} missing; installing ${missing.join(' ')}`,
    );
    await installPackages(missing);
  }

  const why = modulesDifference(root, { os: facts.platform, cpu: facts.cpu });
  if (why === undefined) {
    console.log('setup: node_modules: as locked');
  } else {
    console.log(`setup: node_modules: ${why}; running npm ci`);
    await installModules(root);
  }
  return 0;
}

try {
  process.exitCode = await main();
} catch (error) {
  console.error(`setup: ${error instanceof Error ? error.message : error}`);
  process.exitCode = 1;
}
