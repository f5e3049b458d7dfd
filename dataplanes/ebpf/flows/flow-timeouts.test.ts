import { expect, test } from '@jest/globals';
import { TEST_CONFIG } from '../../shared/test-config.ts';
import { FlowFlag } from '../bpf-types.gen.ts';
import { flowTimeoutOf, resolveTimeouts } from './flow-timeouts.ts';

const settings = TEST_CONFIG.flowTimeouts;

test('numbers are taken as they are', () => {
  const timeouts = resolveTimeouts(settings, () => '1');
  for (const [timer, ms] of Object.entries(settings)) expect(timeouts).toHaveProperty(timer, Number(ms) * 1e6);
});

test.each([
  ['tcpSynSent', 'nf_conntrack_tcp_timeout_syn_sent', 20],
  ['tcpEstablished', 'nf_conntrack_tcp_timeout_established', 3600],
  ['tcpFinsSeen', 'nf_conntrack_tcp_timeout_time_wait', 30],
  ['icmp', 'nf_conntrack_icmp_timeout', 5],
  ['generic', 'nf_conntrack_generic_timeout', 600],
] as const)('auto: %s is the kernel connection tracking %s, else %i s', (timer, sysctl, fallback) => {
  const auto = { ...settings, [timer]: 'auto' as const };
  const read = (text: string | undefined) => (path: string) => (path === `net/netfilter/${sysctl}` ? text : undefined);
  expect(resolveTimeouts(auto, read('77'))[timer]).toBe(77e9);
  for (const text of [undefined, '', 'soon']) expect(resolveTimeouts(auto, read(text))[timer]).toBe(fallback * 1e9);
});

test.each([
  ['creation', 10],
  ['tcpResetSeen', 40],
  ['udp', 60],
] as const)('auto: %s has no sysctl and stays %i s', (timer, seconds) => {
  expect(resolveTimeouts({ ...settings, [timer]: 'auto' }, () => '77')[timer]).toBe(seconds * 1e9);
});

test.each([
  [6, 0, 20],
  [6, FlowFlag.answered, 20],
  [6, FlowFlag.answered | FlowFlag.established, 3600],
  [6, FlowFlag.established | FlowFlag.finOther, 3600],
  [6, FlowFlag.established | FlowFlag.finOther | FlowFlag.finOpener, 30],
  [6, FlowFlag.established | FlowFlag.resetOpener, 40],
  [6, FlowFlag.established | FlowFlag.resetOther, 40],
  [17, FlowFlag.answered, 60],
  [17, FlowFlag.answered | FlowFlag.viaStack, 180],
  [1, 0, 5],
  [58, 0, 5],
  [132, 0, 600],
])('protocol %i with flags %i lives %i s', (protocol, flags, seconds) => {
  expect(
    flowTimeoutOf(
      resolveTimeouts(settings, () => undefined),
      protocol,
      flags,
    ),
  ).toBe(seconds * 1e9);
});
