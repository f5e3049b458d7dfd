/** Three projects: pure tests, tests on the real kernel (root, namespaces, processes), tests on a real Kubernetes. */
const common = {
  rootDir: '.',
  extensionsToTreatAsEsm: ['.ts'],
  transform: { '\\.ts$': '<rootDir>/scripts/jest/strip-types.mjs' },
  modulePathIgnorePatterns: ['<rootDir>/dist/', '<rootDir>/build/'],
  testPathIgnorePatterns: ['/node_modules/', '<rootDir>/dist/', '<rootDir>/build/'],
};

export default {
  globalSetup: '<rootDir>/scripts/jest/global-setup.mjs',
  globalTeardown: '<rootDir>/scripts/jest/global-teardown.mjs',
  reporters: ['default', '<rootDir>/scripts/jest/total-reporter.mjs'],
  projects: [
    {
      ...common,
      displayName: 'unit',
      testMatch: ['<rootDir>/!(test)/**/*.test.ts', '<rootDir>/test/oracle/!(kernel)*.test.ts'],
    },
    {
      ...common,
      displayName: 'kernel',
      testMatch: ['<rootDir>/test/{kernel,contract}/**/*.test.ts', '<rootDir>/test/oracle/kernel*.test.ts'],
    },
    {
      ...common,
      displayName: 'cluster',
      testMatch: ['<rootDir>/test/cluster/**/*.test.ts'],
    },
  ],
  testTimeout: 180_000,
  maxWorkers: 2,
};
