import { describe, expect, test } from '@jest/globals';
import { decodeStdin, delegatedIpam, parseConf, wantedFamilies } from './conf.ts';

const minimal = { cniVersion: '1.0.0', name: 'net', type: 'tortie' };
const fails = (json: object, code: number, message: RegExp) =>
  expect(() => parseConf({ ...minimal, ...json })).toThrow(
    expect.objectContaining({ code, message: expect.stringMatching(message) }),
  );

describe('parseConf', () => {
  test('takes a conf as Calico writes it', () => {
    const parsed = parseConf({
      ...minimal,
      type: 'calico',
      log_level: 'info',
      log_file_path: '/var/log/calico/cni/cni.log',
      datastore_type: 'kubernetes',
      nodename: 'node-1',
      mtu: 0,
      num_queues: 2,
      ipam: { type: 'calico-ipam', assign_ipv4: 'true', assign_ipv6: 'false', ipv4_pools: ['10.1.0.0/16', 'pool-a'] },
      policy: { type: 'k8s' },
      kubernetes: { kubeconfig: '/etc/cni/net.d/calico-kubeconfig' },
      container_settings: { allow_ip_forwarding: true },
      colour: 'tortoiseshell',
    });
    expect(parsed.unknownKeys).toEqual(['colour']);
    expect(parsed.keysWithoutEffect).toEqual(['log_level', 'log_file_path', 'nodename', 'policy', 'kubernetes']);
    expect(wantedFamilies(parsed.conf)).toEqual({ want4: true, want6: false });
    expect(delegatedIpam(parsed.conf)).toBeUndefined();
  });

  test('null counts as absent, as Go’s writers have it', () => {
    expect(parseConf({ ...minimal, ipam: null, runtimeConfig: null, dns: null }).conf.ipam).toBeUndefined();
  });

  test.each([
    [{ mtu: '1440' }, /mtu/],
    [{ mtu: -1 }, /mtu/],
    [{ mtu: 1.5 }, /mtu/],
    [{ socket: 7 }, /socket/],
    [{ standalone: 'true' }, /standalone/],
    [{ ipam: [] }, /ipam/],
    [{ ipam: { assign_ipv4: 'yes' } }, /ipam\.assign_ipv4/],
    [{ ipam: { ipv4_pools: 'pool-a' } }, /ipam\.ipv4_pools/],
    [{ ipam: { routes: [{ dst: '10.0.0.0' }] } }, /ipam\.routes\[0\]\.dst/],
    [{ runtimeConfig: { mac: '01:00:00:00:00:00' } }, /runtimeConfig\.mac/],
    [{ container_settings: { allow_ip_forwarding: 1 } }, /container_settings\.allow_ip_forwarding/],
    [{ name: 'a/b' }, /name/],
    [{ name: undefined }, /name/],
    [{ device_type: 'ipvlan' }, /device_type/],
    [{ 'cni.dev/valid-attachments': [{ containerID: 'a' }] }, /cni\.dev\/valid-attachments/],
  ])('refuses %j with code 7 and the key', (json, key) => fails(json, 7, key));

  test.each([['0.2.0'], ['1.2.0'], [''], [undefined]])('refuses cniVersion %s with code 1', (cniVersion) =>
    fails({ cniVersion }, 1, /cniVersion.*not supported/),
  );

  test('refuses what it can’t do with code 2', () =>
    fails({ dataplane_options: { type: 'grpc' } }, 2, /dataplane_options\.type/));

  test.each(['../host-local', '.', '..', 'a/b'])('refuses to run %s for IPAM', (type) => {
    const { conf } = parseConf({ ...minimal, ipam: { type } });
    expect(() => delegatedIpam(conf)).toThrow(expect.objectContaining({ code: 7 }));
  });
});

test.each(['', '{', '[]', 'null', '"a"', '{}x'])('decodeStdin refuses %j with code 6', (text) => {
  expect(() => decodeStdin(text)).toThrow(expect.objectContaining({ code: 6 }));
});
