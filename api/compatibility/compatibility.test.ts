import { describe, expect, test } from '@jest/globals';
import { felixFieldNames } from '../felix/felix-fields.ts';
import { least, object } from '../kinds.fixtures.ts';
import { kinds, parseAs, type KindName } from '../kinds.ts';
import { compatibility } from './compatibility.ts';
import { fieldPaths } from './fields.ts';
import { notActedOn } from './not-acted-on.ts';
import { isActedOn, settingSupport } from './settings.ts';

const names = Object.keys(kinds) as KindName[];

describe('the table', () => {
  test.each(names)('of %s has a row for each field, and a field for each row', (kind) => {
    const paths = fieldPaths(kinds[kind].schema).map((path) =>
      // A setting is acted on as a whole.
      kind === 'FelixConfiguration' ? path.replace(/^(spec\.\w+).*$/, '$1') : path,
    );
    expect(Object.keys(compatibility[kind]).toSorted()).toEqual([...new Set(paths)].toSorted());
  });

  test('says of everything that is not simply acted on what becomes of it', () => {
    for (const kind of names) {
      for (const [path, { act, note }] of Object.entries(compatibility[kind])) {
        expect({ kind, path, note: act === 'yes' || note !== '' }).toEqual({ kind, path, note: true });
      }
    }
  });

  test('has every setting in one list: acted on, or not with a reason', () => {
    for (const name of felixFieldNames) expect(() => settingSupport(name)).not.toThrow();
    expect(isActedOn('bpfEnabled')).toBe(true);
    expect(isActedOn('usageReportingEnabled')).toBe(true);
    expect(isActedOn('vxlanPort')).toBe(false);
    expect(isActedOn('wireguardEnabled')).toBe(false);
  });
});

describe('what is set and not acted on', () => {
  test.each(names)('is nothing in the least %s', (kind) => {
    expect(notActedOn(kind, parseAs(kind, object(kind, least[kind])).object)).toEqual([]);
  });

  const rows: readonly (readonly [KindName, object, readonly string[]])[] = [
    ['IPPool', { cidr: '10.0.0.0/16', vxlanMode: 'Always' }, ['spec.vxlanMode']],
    [
      'IPPool',
      { cidr: '10.0.0.0/16', ipipMode: 'CrossSubnet', disableBGPExport: true },
      ['spec.ipipMode', 'spec.disableBGPExport'],
    ],
    ['IPPool', { cidr: '10.0.0.0/16', vxlanMode: 'Never', allowedUses: ['Workload'] }, []],
    ['IPPool', { cidr: '10.0.0.0/16', allowedUses: ['LoadBalancer'] }, ['spec.allowedUses']],
    ['IPAMConfiguration', { kubeVirtVMAddressPersistence: 'Enabled' }, ['spec.kubeVirtVMAddressPersistence']],
    ['BGPConfiguration', { serviceClusterIPs: [{ cidr: '10.96.0.0/12' }], asNumber: 64512 }, ['spec.asNumber']],
    [
      'NetworkPolicy',
      {
        performanceHints: ['AssumeNeededOnEveryNode'],
        ingress: [
          { action: 'Allow', metadata: { annotations: { a: 'b' } } },
          { action: 'Allow', http: { methods: ['GET'], paths: [{ exact: '/' }, { exact: '/a' }] } },
        ],
      },
      ['spec.ingress[].http.methods', 'spec.ingress[].http.paths[].exact'],
    ],
    ['FelixConfiguration', { wireguardEnabled: true, bpfEnabled: true }, ['spec.wireguardEnabled']],
    [
      'FelixConfiguration',
      { wireguardEnabled: false, wireguardListeningPort: 51820, nftablesMode: 'disabled' },
      ['spec.nftablesMode'],
    ],
    [
      'FelixConfiguration',
      { nftablesMode: 'Disabled', vxlanPort: 4789, logFilePath: 'None', bpfConntrackTimeouts: {} },
      [],
    ],
    ['FelixConfiguration', { vxlanPort: 4790, goGCThreshold: 10 }, ['spec.vxlanPort']],
    [
      'ClusterNetworkPolicy',
      {
        tier: 'Admin',
        priority: 1,
        subject: { namespaces: {} },
        egress: [{ action: 'Deny', to: [{ domainNames: ['example.com'] }] }],
      },
      ['spec.egress[].to[].domainNames'],
    ],
  ];
  test.each(rows)('in %s %j is %j', (kind, spec, paths) => {
    expect(notActedOn(kind, parseAs(kind, object(kind, spec)).object)).toEqual(paths);
  });
});
