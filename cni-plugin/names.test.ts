import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { parseWorkloadEndpointName } from '#api/names.ts';
import { isInterfaceName } from './environment.ts';
import { aliasOf, aliasPart, endpointIdentity, handleOf, hostDeviceNames, parseAlias } from './names.ts';

const containerId = fc
  .string({ minLength: 1, maxLength: 200, unit: fc.constantFrom(...'abcXYZ019_.-'.split('')) })
  .filter((id) => /^[A-Za-z0-9]/.test(id));
const attachment = fc.record({
  network: containerId,
  containerId,
  ifname: fc
    .string({ minLength: 1, maxLength: 15, unit: fc.constantFrom(...'ethNET01_.-'.split('')) })
    .filter(isInterfaceName),
});
const pod = fc.option(
  fc.constantFrom({ namespace: 'default', name: 'web-0', uid: undefined }, { namespace: 'a', name: 'b.c', uid: 'u' }),
  {
    nil: undefined,
  },
);

describe('names of an attachment', () => {
  test('the host device of a pod’s eth0 is Calico’s', () => {
    const web = { namespace: 'default', name: 'web-1', uid: undefined };
    // printf default.web-1 | sha1sum
    expect(hostDeviceNames('cali', web, { network: 'n', containerId: 'c', ifname: 'eth0' })).toEqual([
      'cali0761ccbeace',
    ]);
  });

  test('the host device of another container begins with its id, where no other one has that name', () => {
    const names = hostDeviceNames('cali', undefined, { network: 'n', containerId: 'web-server-1', ifname: 'eth0' });
    expect(names[0]).toBe('caliweb-server-');
    expect(names[1]).toMatch(/^cali[0-9a-f]{11}$/);
  });

  test('device names fit, and differ between the interfaces of a container', () => {
    fc.assert(
      fc.property(attachment, pod, (one, owner) => {
        const names = hostDeviceNames('cali', owner, one);
        for (const name of names) expect(name.length).toBeLessThanOrEqual(15);
        const other = hostDeviceNames('cali', owner, { ...one, ifname: one.ifname === 'net1' ? 'net2' : 'net1' });
        expect(names.some((name) => other.includes(name))).toBe(false);
      }),
    );
  });

  test('an alias fits into the kernel’s 255 bytes and says whose it is', () => {
    fc.assert(
      fc.property(attachment, (one) => {
        const alias = aliasOf(one);
        expect(Buffer.byteLength(alias)).toBeLessThanOrEqual(255);
        expect(parseAlias(alias)).toEqual({
          network: aliasPart(one.network),
          containerId: aliasPart(one.containerId),
          ifname: one.ifname,
        });
      }),
    );
    expect(parseAlias(undefined)).toBeUndefined();
    expect(parseAlias('tortie:a/b')).toBeUndefined();
    expect(parseAlias('my nic')).toBeUndefined();
  });

  test('two attachments never share an alias or a handle', () => {
    fc.assert(
      fc.property(attachment, attachment, (one, two) => {
        fc.pre(JSON.stringify(one) !== JSON.stringify(two));
        expect(aliasOf(one)).not.toBe(aliasOf(two));
        if (one.network === two.network && one.containerId === two.containerId)
          expect(handleOf(one)).not.toBe(handleOf(two));
      }),
    );
  });

  test('the endpoint’s name can be an object’s and read back as Calico does', () => {
    fc.assert(
      fc.property(attachment, pod, (one, owner) => {
        const { name } = endpointIdentity('node-1', owner, one);
        expect(name).toMatch(/^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$/);
        expect(name.length).toBeLessThanOrEqual(253);
      }),
    );
    const identity = endpointIdentity(
      'node-1',
      { namespace: 'shop', name: 'web-0', uid: undefined },
      { network: 'n', containerId: 'c', ifname: 'eth0' },
    );
    expect(identity).toEqual({
      namespace: 'shop',
      name: 'node--1-k8s-web--0-eth0',
      orchestrator: 'k8s',
      workload: 'web-0',
      endpoint: 'eth0',
    });
    expect(parseWorkloadEndpointName(identity.name)).toEqual({
      node: 'node-1',
      orchestrator: 'k8s',
      workload: 'web-0',
      endpoint: 'eth0',
    });
  });
});
