import { describe, expect, test } from '@jest/globals';
import { parseAs } from '../kinds.ts';
import { v3 } from '../v3/group.ts';
import { parseDuration } from './duration.ts';
import { felixField, felixFieldNames, felixVariable, type FelixFieldName, type FelixSettings } from './felix-fields.ts';
import { resolveFelix } from './felix-settings.ts';

function spec(value: object): object {
  return parseAs('FelixConfiguration', {
    apiVersion: v3,
    kind: 'FelixConfiguration',
    metadata: { name: 'default' },
    spec: value,
  }).object.spec;
}

describe('the table', () => {
  test('has every field once, with a variable of its own', () => {
    expect(new Set(felixFieldNames.map(felixVariable)).size).toBe(felixFieldNames.length);
    expect(felixFieldNames.length).toBeGreaterThan(170);
  });

  test.each(felixFieldNames)('%s says what it is for, and its default is a value', (name) => {
    const { description, default: initial, defaultText, type } = felixField(name);
    expect(description).toMatch(/^.+\.$/);
    if (defaultText !== '') {
      expect(type.readText(defaultText)).toEqual({ value: initial });
    }
  });

  test.each([
    ['bpfEnabled', 'FELIX_BPFENABLED'],
    ['ipipEnabled', 'FELIX_IPINIPENABLED'],
    ['iptablesPostWriteCheckInterval', 'FELIX_IPTABLESPOSTWRITECHECKINTERVALSECS'],
    ['externalNodesList', 'FELIX_EXTERNALNODESCIDRLIST'],
    ['wireguardKeepAlive', 'FELIX_WIREGUARDPERSISTENTKEEPALIVE'],
  ] as const)('%s is set by %s, as in Calico', (name, variable) => {
    expect(felixVariable(name)).toBe(variable);
  });

  test('tells the type of each setting', () => {
    const { settings } = resolveFelix({ env: {} });
    const enabled: boolean = settings.bpfEnabled;
    const mode: 'Insert' | 'Append' = settings.chainInsertMode;
    const ports: readonly { readonly protocol: 'tcp' | 'udp' | 'sctp'; readonly port: number }[] =
      settings.failsafeInboundHostPorts;
    // @ts-expect-error: a duration is a number of milliseconds
    const wrong: string = settings.routeRefreshInterval;
    expect([enabled, mode, ports.length, wrong]).toEqual([false, 'Insert', 9, 90_000]);
  });
});

describe('built-in defaults', () => {
  test.each<[FelixFieldName, unknown]>([
    ['interfacePrefix', ['cali']],
    ['iptablesRefreshInterval', 180_000],
    ['iptablesLockProbeInterval', 50],
    ['usageReportingInterval', 86_400_000],
    ['iptablesMarkMask', 0xffff0000],
    ['natPortRange', undefined],
    ['vxlanEnabled', undefined],
    ['routeTableRanges', []],
    ['interfaceExclude', ['kube-ipvs0']],
    ['bpfPSNATPorts', { min: 20000, max: 29999 }],
    ['kubeNodePortRanges', [{ min: 30000, max: 32767 }]],
    ['bpfForceTrackPacketsFromIfaces', ['docker+']],
    ['healthTimeoutOverrides', {}],
    ['logActionRateLimit', undefined],
    [
      'bpfConntrackTimeouts',
      {
        creationGracePeriod: 10_000,
        tcpSynSent: 20_000,
        tcpEstablished: 3_600_000,
        tcpFinsSeen: 'Auto',
        tcpResetSeen: 40_000,
        udpTimeout: 60_000,
        genericTimeout: 600_000,
        icmpTimeout: 5_000,
      },
    ],
  ])('%s', (name, value) => {
    expect(resolveFelix({ env: {} }).settings[name]).toEqual(value);
  });
});

/** Field, as in the object, as in a variable, value. Undefined where a form does not exist. */
const values: readonly (readonly [keyof FelixSettings, unknown, string | undefined, unknown])[] = [
  ['bpfEnabled', true, 'Yes', true],
  ['bpfEnabled', false, '0', false],
  ['ipv6Support', undefined, 'none', false],
  ['routeRefreshInterval', '1m30s', '90', 90_000],
  ['routeRefreshInterval', '0s', 'none', 0],
  ['routeRefreshInterval', '500ms', '0.5', 500],
  ['routeRefreshInterval', '1.5h', '1h30m', 5_400_000],
  ['iptablesLockProbeInterval', '50ms', '50', 50],
  ['iptablesBackend', 'nft', 'NFT', 'NFT'],
  ['chainInsertMode', 'append', 'APPEND', 'Append'],
  ['defaultEndpointToHostAction', 'Accept', 'ACCEPT', 'Accept'],
  ['vxlanEnabled', true, 'true', true],
  ['vxlanEnabled', undefined, 'none', undefined],
  ['vxlanVNI', 4097, '0x1001', 4097],
  ['iptablesMarkMask', 0xff00, '0xff00', 0xff00],
  ['iptablesMarkMask', '0xff00', '65280', 0xff00],
  ['interfacePrefix', 'cali,tap', 'cali,tap', ['cali', 'tap']],
  ['interfaceExclude', '/^kube/,veth1', '/^kube/, veth1', ['/^kube/', 'veth1']],
  ['logFilePath', '/var/log/x', '/var/log/x', '/var/log/x'],
  ['logFilePath', 'none', 'None', undefined],
  ['logSeveritySys', 'None', 'none', undefined],
  ['logSeverityScreen', 'DEBUG', 'debug', 'Debug'],
  ['flowLogsPolicyEvaluationMode', 'None', 'none', 'None'],
  ['natOutgoingAddress', '192.0.2.1', '192.0.2.1', '192.0.2.1'],
  ['natPortRange', '1000:2000', '1000:2000', { min: 1000, max: 2000 }],
  ['natPortRange', 1000, '1000', { min: 1000, max: 1000 }],
  [
    'kubeNodePortRanges',
    [80, '90:99'],
    '80, 90:99',
    [
      { min: 80, max: 80 },
      { min: 90, max: 99 },
    ],
  ],
  ['kubeNodePortRanges', [], 'none', []],
  ['externalNodesList', ['10.0.0.1', '10.1.0.0/16'], '10.0.0.1,10.1.0.0/16', ['10.0.0.1/32', '10.1.0.0/16']],
  [
    'failsafeInboundHostPorts',
    [{ port: 22 }, { protocol: 'UDP', port: 53, net: '10.0.0.0/8' }, { protocol: 'sctp', port: 9, net: 'fd00::/8' }],
    '22,UDP:10.0.0.0/8:53,sctp:[fd00::/8]:9',
    [
      { protocol: 'tcp', port: 22 },
      { protocol: 'udp', port: 53, net: '10.0.0.0/8' },
      { protocol: 'sctp', port: 9, net: 'fd00::/8' },
    ],
  ],
  ['failsafeInboundHostPorts', [], 'none', []],
  ['routeTableRange', { min: 1, max: 250 }, '1-250', { min: 1, max: 250 }],
  [
    'routeTableRanges',
    [
      { min: 1, max: 250 },
      { min: 500, max: 600 },
    ],
    '1-250 500-600',
    [
      { min: 1, max: 250 },
      { min: 500, max: 600 },
    ],
  ],
  ['featureDetectOverride', 'A=true,B=', 'A=true,B=', { A: 'true', B: '' }],
  ['bpfLogFilters', { all: 'tcp port 80' }, 'all=tcp port 80', { all: 'tcp port 80' }],
  ['healthTimeoutOverrides', [{ name: 'x', timeout: '1m' }], 'x=60s', { x: 60_000 }],
  ['istioDSCPMark', 'EF', '46', 46],
  ['istioDSCPMark', 10, 'af11', 10],
  ['mtuIfacePattern', '^eth', '^eth', '^eth'],
  ['bpfForceTrackPacketsFromIfaces', ['docker+', 'br0'], 'docker+,br0', ['docker+', 'br0']],
];

describe('a setting', () => {
  test.each(values)('%s is %j in the object and %j in a variable', (name, inObject, inVariable, value) => {
    if (inObject !== undefined) {
      const { settings, sources } = resolveFelix({ env: {}, global: spec({ [name]: inObject }) });
      expect(settings[name]).toEqual(value);
      expect(sources[name]).toBe('default object');
    }
    if (inVariable !== undefined) {
      const { settings, sources, problems } = resolveFelix({ env: { [felixVariable(name)]: inVariable } });
      expect(problems).toEqual([]);
      expect(settings[name]).toEqual(value);
      expect(sources[name]).toBe('environment');
    }
  });

  test('keeps its other conntrack timers when some are given', () => {
    const { settings } = resolveFelix({ env: { FELIX_BPFCONNTRACKTIMEOUTS: 'TCPEstablished=2h,udptimeout=auto' } });
    expect(settings.bpfConntrackTimeouts).toMatchObject({
      tcpEstablished: 7_200_000,
      udpTimeout: 'Auto',
      icmpTimeout: 5_000,
    });
  });

  test.each<[FelixFieldName, unknown, string]>([
    ['bpfEnabled', 1, 'maybe'],
    ['routeRefreshInterval', '90', '-1'],
    ['routeRefreshInterval', '1 m', '1x'],
    ['iptablesBackend', 'bpf', 'none'],
    ['healthPort', 65536, '65536'],
    ['healthPort', 1.5, '1.5'],
    ['iptablesMarkMask', 1, '0x1'],
    ['iptablesMarkMask', 2 ** 33, 'x'],
    ['interfacePrefix', 'a b', 'none'],
    ['interfaceExclude', '/(/', 'sixteencharacters'],
    ['natOutgoingAddress', 'fd00::1', '10.0.0.0/8'],
    ['natPortRange', '2000:1000', '1:2:3'],
    ['natPortRange', 65536, 'http'],
    ['externalNodesList', ['x'], 'x'],
    ['failsafeInboundHostPorts', [{ port: 22, protocol: 'icmp' }], 'icmp:1'],
    ['failsafeInboundHostPorts', [{ port: 65536 }], 'tcp:fd00::/8:1'],
    ['failsafeInboundHostPorts', [{ port: 1, net: 'x' }], 'tcp:x:1'],
    ['routeTableRange', { min: 0, max: 250 }, '1'],
    ['routeTableRanges', [{ min: 1, max: 70000 }], '9-8'],
    ['featureDetectOverride', 'A', 'A'],
    ['bpfConntrackTimeouts', { tcpNope: '1s' }, 'TCPSynSent=fast'],
    ['healthTimeoutOverrides', [{ name: 'x', timeout: '1' }], 'x=y'],
    ['istioDSCPMark', 64, 'ZZ'],
    ['mtuIfacePattern', '(', '('],
    ['logActionRateLimit', '10/week', '0/second'],
    ['vxlanVNI', 0x1000000, '-1'],
  ])('%s can be neither %j in the object nor %j in a variable', (name, inObject, inVariable) => {
    expect(() => spec({ [name]: inObject })).toThrow(expect.objectContaining({ code: 'invalid' }));
    const { settings, problems } = resolveFelix({ env: { [felixVariable(name)]: inVariable } });
    expect(problems).toHaveLength(1);
    expect(problems[0]).toMatchObject({ variable: felixVariable(name), field: name, fatal: felixField(name).fatal });
    expect(problems[0]?.message).toContain(
      `${felixVariable(name)} must be ${felixField(name).type.expected} (is ${inVariable})`,
    );
    expect(settings[name]).toEqual(felixField(name).default);
  });
});

describe('precedence', () => {
  const global = spec({ vxlanPort: 1, vxlanVNI: 1, vxlanMTU: 1 });
  const node = spec({ vxlanPort: 2, vxlanVNI: 2 });

  test('is variable, object of the node, default object, built-in', () => {
    const { settings, sources } = resolveFelix({ env: { FELIX_VXLANPORT: '3' }, node, global });
    const names = ['vxlanPort', 'vxlanVNI', 'vxlanMTU', 'vxlanMTUV6'] as const;
    expect(names.map((name) => settings[name])).toEqual([3, 2, 1, 0]);
    expect(names.map((name) => sources[name])).toEqual(['environment', 'node', 'default object', 'built-in']);
  });

  test('passes over a variable that can not be used, and over an empty one', () => {
    const wrong = resolveFelix({ env: { FELIX_VXLANPORT: 'x' }, node, global });
    expect(wrong.settings.vxlanPort).toBe(2);
    expect(wrong.problems.map(({ fatal }) => fatal)).toEqual([false]);
    const empty = resolveFelix({ env: { FELIX_VXLANPORT: '' }, node, global });
    expect(empty.settings.vxlanPort).toBe(2);
    expect(empty.problems).toEqual([]);
  });

  test('knows variables in any case, and names those that set nothing', () => {
    const { settings, problems } = resolveFelix({
      env: { FELIX_VXLANPort: '3', FELIX_TYPHAADDR: 'x:1', PATH: '/bin' },
    });
    expect(settings.vxlanPort).toBe(3);
    expect(problems).toEqual([
      {
        variable: 'FELIX_TYPHAADDR',
        field: undefined,
        message: 'FELIX_TYPHAADDR sets nothing that is known here',
        fatal: false,
      },
    ]);
  });

  test('passes a variable that an object says none to: it is set, to nothing', () => {
    const { settings, sources } = resolveFelix({
      env: {},
      node: spec({ logFilePath: 'none' }),
      global: spec({ logFilePath: '/x' }),
    });
    expect(settings.logFilePath).toBeUndefined();
    expect(sources.logFilePath).toBe('node');
  });
});

test('a FelixConfiguration keeps fields that we do not know, and lists them', () => {
  const parsed = parseAs('FelixConfiguration', {
    apiVersion: v3,
    kind: 'FelixConfiguration',
    metadata: { name: 'default' },
    spec: { bpfEnabled: true, bpfTeleport: 'Enabled' },
  });
  expect(parsed.unknownFields).toEqual(['spec.bpfTeleport']);
  expect(parsed.object.spec).toEqual({ bpfEnabled: true, bpfTeleport: 'Enabled' });
});

test.each([
  ['0', 0],
  ['90s', 90_000],
  ['1m30s', 90_000],
  ['1h5m', 3_900_000],
  ['100us', 0.1],
  ['1.5s', 1500],
  ['2h45m30.5s', 9_930_500],
  ['', undefined],
  ['90', undefined],
  ['-1s', undefined],
  ['1s ', undefined],
  ['s', undefined],
  ['1d', undefined],
])('the duration %j is %p ms', (text, ms) => {
  expect(parseDuration(text)).toBe(ms);
});
