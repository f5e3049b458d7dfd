import { describe, expect, test } from '@jest/globals';
import { parseCommandLine, readBootstrap, readCniDirs, readRunDir } from './bootstrap.ts';

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
      cniConf: { dir: undefined, version: '1.0.0', mtu: undefined },
      ipamLeakGraceMs: 900_000,
      felixEnv: {},
    });
  });

  test("the runtime's configuration is as flags, variables and a ConfigMap's empty keys say", () => {
    const env = { TORTIE_DATASTORE: 'files:/d', TORTIE_CNI_MTU: '', TORTIE_CNI_VERSION: '' };
    expect(read(['--cni-conf-dir=/etc/cni/net.d/'], env).cniConf).toEqual({
      dir: '/etc/cni/net.d',
      version: '1.0.0',
      mtu: undefined,
    });
    expect(read(['--cni-mtu=1400', '--cni-version=1.1.0'], env).cniConf).toMatchObject({ version: '1.1.0', mtu: 1400 });
    expect(read(['--cni-mtu=0'], env).cniConf.mtu).toBeUndefined();
    expect(readCniDirs(parseCommandLine(['--cni-bin-dir=/opt/cni/bin']).flags, env)).toEqual({
      confDir: undefined,
      binDir: '/opt/cni/bin',
    });
  });

  test.each([
    ['90s', 90_000],
    ['2h', 7_200_000],
    ['0', 0],
    ['', 900_000],
  ])('an address is released after a time of grace: %j is %d ms', (text, ms) => {
    expect(read(['--datastore=files:/d'], { TORTIE_IPAM_LEAK_GRACE: text }).ipamLeakGraceMs).toBe(ms);
  });

  test('FELIX_ variables are carried along, whatever their case', () => {
    expect(read(['--datastore=files:/d'], { FELIX_BPFENABLED: 'true', felix_x: '1', OTHER: '2' }).felixEnv).toEqual({
      FELIX_BPFENABLED: 'true',
      felix_x: '1',
    });
  });

  test.each([
    [[], '--datastore (TORTIE_DATASTORE) is missing: give kubernetes, or files:DIR'],
    [['--datastore=files:relative'], 'must be kubernetes, or files:DIR with an absolute DIR (is "files:relative")'],
    [['--datastore=etcd'], 'must be kubernetes, or files:DIR with an absolute DIR (is "etcd")'],
    [['--datastore=kubernetes', '--kubeconfig=conf'], '--kubeconfig (KUBECONFIG) must be an absolute path (is "conf")'],
    [['--datastore=files:/d', '--run-dir=run'], '--run-dir (TORTIE_RUN_DIR) must be an absolute path (is "run")'],
    [['--datastore=files:/d', '--node-name=Upper'], '--node-name (TORTIE_NODE_NAME) must be a DNS name'],
    [['--datastore=files:/d', '--cni-conf-dir=net.d'], '--cni-conf-dir (TORTIE_CNI_CONF_DIR) must be an absolute path'],
    [['--datastore=files:/d', '--cni-version=2.0.0'], '--cni-version (TORTIE_CNI_VERSION) must be one of 0.3.1'],
    [['--datastore=files:/d', '--cni-mtu=9k'], '--cni-mtu (TORTIE_CNI_MTU) must be 68 to 65535'],
    [['--datastore=files:/d', '--ipam-leak-grace=15'], '--ipam-leak-grace (TORTIE_IPAM_LEAK_GRACE) must be a duration'],
    [['--datastore=files:/d', '--cni-mtu=67'], '--cni-mtu (TORTIE_CNI_MTU) must be 68 to 65535'],
    [['--datastore=files:/d', '--nonsense'], "Unknown option '--nonsense'"],
  ])('%j is refused, naming flag and variable', (args, message) => {
    expect(() => read(args)).toThrow(message);
  });

  test.each([
    ['as a pod, by its service account', [], {}, undefined],
    ['by a flag', ['--kubeconfig=/etc/conf'], { KUBECONFIG: '/other' }, '/etc/conf'],
    ['by the variable that kubectl reads', [], { KUBECONFIG: '/home/me/.kube/config' }, '/home/me/.kube/config'],
  ])('the API server is found %s', (_how, args, env, kubeconfig) => {
    expect(read(['--datastore=kubernetes', ...args], env).datastore).toEqual({ kind: 'kubernetes', kubeconfig });
  });

  test('a kubeconfig is nothing to a folder of files', () => {
    expect(read(['--datastore=files:/d'], { KUBECONFIG: 'a:b' }).datastore).toEqual({ kind: 'files', dir: '/d' });
  });

  test('the node is called as the DaemonSet says, which has it of the Pod', () => {
    const env = { TORTIE_DATASTORE: 'kubernetes', TORTIE_NODE_NAME: 'ip-10-0-0-7.eu-west-1.compute.internal' };
    expect(read([], env).nodeName).toBe('ip-10-0-0-7.eu-west-1.compute.internal');
  });

  test('asking an agent needs only its run dir', () => {
    expect(readRunDir(parseCommandLine(['--run-dir=/r/']).flags, {})).toBe('/r');
  });
});
