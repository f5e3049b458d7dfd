import { describe, expect, test } from '@jest/globals';
import { parseAs } from '#api/kinds.ts';
import { resolveAgentConfig } from './agent-config.ts';

const felix = (name: string, spec: object) =>
  parseAs('FelixConfiguration', {
    apiVersion: 'projectcalico.org/v3',
    kind: 'FelixConfiguration',
    metadata: { name },
    spec,
  }).object;

describe('the agent configuration', () => {
  test('without anything: Calico defaults, iptables wanted, nothing to report', () => {
    const config = resolveAgentConfig({}, undefined, undefined);
    expect(config.wanted).toBe('iptables');
    expect(config.dataplane).toMatchObject({
      interfacePrefixes: ['cali'],
      deviceRouteProtocol: 3,
      routeMetricV4: 1024,
      routeRefreshIntervalMs: 90_000,
      iptablesBackend: 'auto',
      chainInsertMode: 'insert',
      workloadSourceSpoofing: 'disabled',
      maxIpsetSize: 1_048_576,
    });
    expect(config.report).toEqual({ overriddenByEnvironment: [], notActedOn: [], problems: [] });
  });

  test('a variable beats the node object, which beats the default object', () => {
    const node = felix('node.n1', { bpfEnabled: false, routeRefreshInterval: '10s' });
    const global = felix('default', { bpfEnabled: true, routeRefreshInterval: '20s', iptablesBackend: 'Legacy' });
    expect(resolveAgentConfig({}, undefined, global).wanted).toBe('ebpf');
    expect(resolveAgentConfig({}, node, global).wanted).toBe('iptables');
    const config = resolveAgentConfig({ FELIX_BPFENABLED: 'true' }, node, global);
    expect(config.wanted).toBe('ebpf');
    expect(config.dataplane).toMatchObject({ routeRefreshIntervalMs: 10_000, iptablesBackend: 'legacy' });
    expect(config.report.overriddenByEnvironment).toEqual([
      { field: 'bpfEnabled', variable: 'FELIX_BPFENABLED', value: 'true' },
    ]);
  });

  test('what uplinks are called is a setting only where it is set', () => {
    expect(resolveAgentConfig({}, undefined, undefined).dataplane).not.toHaveProperty('uplinkPattern');
    const set = felix('default', { bpfDataIfacePattern: '^bond' });
    expect(resolveAgentConfig({}, undefined, set).dataplane.uplinkPattern).toBe('^bond');
    const env = { FELIX_BPFDATAIFACEPATTERN: '^eth' };
    expect(resolveAgentConfig(env, undefined, set).dataplane.uplinkPattern).toBe('^eth');
    expect(resolveAgentConfig({}, undefined, set).report.notActedOn).toEqual([]);
  });

  test('timeouts of flows: what is set, else Calico defaults, in ms; Auto is the kernel', () => {
    expect(resolveAgentConfig({}, undefined, undefined).dataplane.flowTimeouts).toEqual({
      creation: 10_000,
      tcpSynSent: 20_000,
      tcpEstablished: 3_600_000,
      tcpFinsSeen: 'auto',
      tcpResetSeen: 40_000,
      udp: 60_000,
      icmp: 5000,
      generic: 600_000,
    });
    const set = felix('default', { bpfConntrackTimeouts: { udpTimeout: '3m', icmpTimeout: 'Auto' } });
    expect(resolveAgentConfig({}, undefined, set).dataplane.flowTimeouts).toMatchObject({ udp: 180_000, icmp: 'auto' });
  });

  test('a field that is set but not acted on is listed', () => {
    const config = resolveAgentConfig({}, undefined, felix('default', { wireguardEnabled: true, bpfEnabled: true }));
    expect(config.report.notActedOn).toEqual(['wireguardEnabled']);
  });

  test('a variable that cannot be used is reported; one that Calico calls fatal stops the agent', () => {
    const config = resolveAgentConfig(
      { FELIX_ROUTEREFRESHINTERVAL: 'soon', FELIX_CHAININSERTMODE: 'sideways' },
      undefined,
      undefined,
    );
    expect(config.report.problems.join('\n')).toContain('FELIX_ROUTEREFRESHINTERVAL');
    expect(config.fatal).toEqual([expect.stringContaining('FELIX_CHAININSERTMODE')]);
  });
});
