import { expect, test } from '@jest/globals';
import type { AgentStatus } from '../status.ts';
import { statusText } from './status-command.ts';

const waits = 'eBPF is wanted, but pod default/web has a policy';
const status: AgentStatus = {
  node: 'node1',
  version: '0.0.0',
  ready: false,
  reasons: [waits],
  dataplane: { active: 'iptables', wanted: 'ebpf', reasons: [waits], failures: [] },
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
