import { describe, expect, test } from '@jest/globals';
import { parseCommandLine, readBootstrap, readRunDir } from './bootstrap.ts';

const read = (args: string[], env: NodeJS.ProcessEnv = {}) => readBootstrap(parseCommandLine(args).flags, env);

describe('bootstrap settings', () => {
  test('a flag beats the variable, the variable beats the default', () => {
    const env = { TORTIE_NODE_NAME: 'from-env', TORTIE_DATASTORE: 'files:/data', TORTIE_STATE_DIR: '/state' };
    expect(read(['--node-name=from-flag'], env)).toEqual({
      nodeName: 'from-flag',
      datastore: { kind: 'files', dir: '/data' },
      runDir: '/run/tortie',
      stateDir: '/state',
      bpffs: '/sys/fs/bpf/tortie',
      felixEnv: {},
    });
  });

  test('FELIX_ variables are carried along, whatever their case', () => {
    expect(read(['--datastore=files:/d'], { FELIX_BPFENABLED: 'true', felix_x: '1', OTHER: '2' }).felixEnv).toEqual({
      FELIX_BPFENABLED: 'true',
      felix_x: '1',
    });
  });

  test.each([
    [[], '--datastore (TORTIE_DATASTORE) is missing'],
    [['--datastore=files:relative'], 'must be files:DIR with an absolute DIR (is "files:relative")'],
    [['--datastore=etcd'], 'must be files:DIR with an absolute DIR (is "etcd")'],
    [['--datastore=files:/d', '--run-dir=run'], '--run-dir (TORTIE_RUN_DIR) must be an absolute path (is "run")'],
    [['--datastore=files:/d', '--node-name=Upper'], '--node-name (TORTIE_NODE_NAME) must be a DNS name'],
    [['--datastore=files:/d', '--nonsense'], "Unknown option '--nonsense'"],
  ])('%j is refused, naming flag and variable', (args, message) => {
    expect(() => read(args)).toThrow(message);
  });

  test('asking an agent needs only its run dir', () => {
    expect(readRunDir(parseCommandLine(['--run-dir=/r/']).flags, {})).toBe('/r');
  });
});
