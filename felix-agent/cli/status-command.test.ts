import { expect, test } from '@jest/globals';
import type { AgentStatus } from '../status.ts';
import { statusText } from './status-command.ts';

const waits = 'eBPF is wanted, but pod default/web has a policy';
const status: AgentStatus = {
  node: 'node1',
  version: '0.0.0',
  ready: false,
  reasons: [waits],
  dataplane: {
    active: 'iptables',
    wanted: 'ebpf',
    reasons: [waits],
    failures: [],
    hostDevices: [],
    notes: [],
    inForce: null,
  },
  datastore: { location: 'kubernetes', absentKinds: [], problems: [], failures: [], kubeconfig: '' },
  cluster: { problems: [] },
  addresses: {
    leader: 'node2_29bb0936-0000-4000-8000-000000000000',
    leads: false,
    lastScan: { ownNode: null, deletedNodes: null },
    candidates: [],
    problems: [],
  },
  preflight: null,
  notActedOn: [],
  policy: { problems: [] },
  configuration: { overriddenByEnvironment: [], notActedOn: [], problems: [] },
  services: { failures: [] },
  endpoints: 1,
};

test('each reason is said once, and who collects addresses by the name of its node', () => {
  const lines = statusText(status).split('\n');
  expect(lines.filter((line) => line.includes(waits))).toHaveLength(1);
  expect(lines).toContain('addresses   node2 collects what deleted nodes leave');
});

test('devices with programs say what for, how they are attached, and why not by XDP; what could be better is said', () => {
  const xdp = { xdp: 'off', xdpReason: 'another program is there' } as const;
  const hostDevices = [
    { device: 'eth0', hostEndpoint: 'up', isUplink: false, attached: 'tcx', ...xdp },
    { device: 'eth1', hostEndpoint: null, isUplink: false, attached: 'clsact' },
    {
      device: 'lo',
      hostEndpoint: 'lo',
      isUplink: false,
      attached: 'tcx',
      xdp: 'generic',
      xdpReason: 'the driver runs none',
    },
    { device: 'eth2', hostEndpoint: 'up', isUplink: true, attached: 'tcx' },
    { device: 'eth3', hostEndpoint: null, isUplink: true, attached: 'tcx' },
    { device: 'eth4', hostEndpoint: null, isUplink: true, attached: 'tcx', viaStack: "others' programs are there" },
  ] as const;
  const dataplane = { ...status.dataplane, hostDevices, notes: ['no device is an uplink'] };
  const lines = statusText({ ...status, dataplane }).split('\n');
  expect(lines).toContain('host device eth2: uplink, host endpoint up, by tcx');
  expect(lines).toContain('host device eth3: uplink, by tcx');
  expect(lines).toContain("host device eth4: uplink, by tcx; others' programs are there");
  expect(lines).toContain('            - no device is an uplink');
  expect(lines).toContain('host device eth0: host endpoint up, by tcx, XDP off (another program is there)');
  expect(lines).toContain('host device eth1: what others let in, by clsact');
  expect(lines).toContain('host device lo: host endpoint lo, by tcx, XDP generic (the driver runs none)');
});
