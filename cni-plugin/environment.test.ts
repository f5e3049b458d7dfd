import { describe, expect, test } from '@jest/globals';
import { parseArgs } from './args.ts';
import { isInterfaceName, readEnvironment, verbOf } from './environment.ts';

const env = { CNI_COMMAND: 'ADD', CNI_CONTAINERID: 'c1', CNI_NETNS: '/run/netns/c1', CNI_IFNAME: 'eth0' };
const code4 = (message: RegExp) => expect.objectContaining({ code: 4, message: expect.stringMatching(message) });

describe('readEnvironment', () => {
  test.each([
    ['ADD', 'CNI_CONTAINERID'],
    ['ADD', 'CNI_NETNS'],
    ['ADD', 'CNI_IFNAME'],
    ['CHECK', 'CNI_CONTAINERID'],
    ['CHECK', 'CNI_NETNS'],
    ['CHECK', 'CNI_IFNAME'],
    ['DEL', 'CNI_CONTAINERID'],
    ['DEL', 'CNI_IFNAME'],
  ] as const)('%s needs %s', (verb, name) => {
    expect(() => readEnvironment(verb, { ...env, [name]: '' })).toThrow(
      code4(new RegExp(`${name} is not set; ${verb}`)),
    );
  });

  test('DEL does without a namespace', () => {
    expect(readEnvironment('DEL', { ...env, CNI_NETNS: '' }).netns).toBe('');
  });

  test.each([
    ['CNI_CONTAINERID', '../x'],
    ['CNI_CONTAINERID', '-x'],
    ['CNI_CONTAINERID', 'x'.repeat(256)],
    ['CNI_NETNS', 'run/netns/x'],
    ['CNI_IFNAME', 'sixteen-chars-xx'],
    ['CNI_IFNAME', 'a/b'],
    ['CNI_IFNAME', '..'],
    ['CNI_ARGS', 'K8S_POD_NAME'],
  ])('refuses %s=%s, naming it', (name, value) => {
    expect(() => readEnvironment('ADD', { ...env, [name]: value })).toThrow(code4(new RegExp(name)));
  });

  test('an interface name is what the kernel takes', () => {
    expect(['eth0', 'a', 'net-1.2_3', 'E'].map(isInterfaceName)).toEqual([true, true, true, true]);
    expect(['', '.', '..', '-a', 'a-', 'a b', 'a:b', 'é'].map(isInterfaceName)).toEqual(Array(8).fill(false));
  });
});

test.each([[undefined], [''], ['add'], ['EXPLODE']])('verbOf refuses %s', (verb) => {
  expect(() => verbOf(verb === undefined ? {} : { CNI_COMMAND: verb })).toThrow(code4(/CNI_COMMAND/));
});

describe('parseArgs', () => {
  test('reads what kubelet passes', () => {
    const text =
      'IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web-0;K8S_POD_INFRA_CONTAINER_ID=c1;K8S_POD_UID=u-1;OTHER=x=y';
    expect(parseArgs(text)).toEqual({ pod: { namespace: 'shop', name: 'web-0', uid: 'u-1' }, ips: [], mac: undefined });
  });

  test('reads addresses and MAC', () => {
    expect(parseArgs('IP=10.0.0.3/24,FD00::3;MAC=02:AA:00:00:00:01')).toEqual({
      pod: undefined,
      ips: ['10.0.0.3', 'fd00::3'],
      mac: '02:aa:00:00:00:01',
    });
    expect(parseArgs('')).toEqual({ pod: undefined, ips: [], mac: undefined });
  });

  test.each([
    ['OTHER=x', /unknown OTHER/],
    ['K8S_POD_NAME=a', /together/],
    ['K8S_POD_NAME=A_B;K8S_POD_NAMESPACE=default', /K8S_POD_NAME/],
    ['K8S_POD_NAME=a;K8S_POD_NAMESPACE=../x', /K8S_POD_NAMESPACE/],
    ['IP=10.0.0.300', /IP/],
    ['MAC=ff:ff:ff:ff:ff:ff', /MAC/],
    ['=x', /NAME=VALUE/],
  ])('refuses %s', (text, message) => {
    expect(() => parseArgs(text)).toThrow(code4(message));
  });
});
