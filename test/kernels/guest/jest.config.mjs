import config from '../../../jest.config.mjs';

// The machine is thrown away after the run: nothing is left behind on it. Emulation is some ten times slower.
const { globalSetup: _setup, globalTeardown: _teardown, ...rest } = config;
const rootDir = '/tortie';
const [jest = 'default', ...totals] = rest.reporters;

export default {
  ...rest,
  rootDir,
  // The total stays the last line.
  reporters: [jest, '<rootDir>/test/kernels/guest/skipped-reporter.mjs', ...totals],
  projects: rest.projects.map((project) => ({ ...project, rootDir })),
  testTimeout: 300_000,
};
