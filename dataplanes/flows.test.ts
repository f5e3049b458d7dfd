import { expect, test } from '@jest/globals';
import { type Flow, type FlowFilter, flowMatcher, flowName, protocolNumber, protocolText } from './flows.ts';

const flow: Flow = {
  family: 4,
  protocol: 6,
  asked: { source: '10.65.0.2', sourcePort: 40_000, destination: '10.96.0.1', destinationPort: 80 },
  delivered: { source: '10.65.0.2', sourcePort: 40_000, destination: '10.65.0.3', destinationPort: 8080 },
  state: 'established',
  crossesNetfilter: false,
  details: [],
};

test.each<[FlowFilter, boolean]>([
  [{}, true],
  [{ addresses: ['10.65.0.2'] }, true],
  [{ addresses: ['10.96.0.1'] }, true],
  [{ addresses: ['10.65.0.9', '10.65.0.3'] }, true],
  [{ addresses: ['10.65.0.9'] }, false],
  [{ addresses: [] }, false],
  [{ addresses: ['10.65.0.2'], peers: ['10.65.0.3'] }, true],
  [{ addresses: ['10.65.0.2'], peers: ['10.65.0.9'] }, false],
  [{ port: 80 }, true],
  [{ port: 8080 }, true],
  [{ port: 40_000 }, true],
  [{ port: 81 }, false],
  [{ protocol: 6, states: ['new', 'established'] }, true],
  [{ protocol: 17 }, false],
  [{ states: ['new'] }, false],
])('the filter %j', (filter, matches) => {
  expect(flowMatcher(filter)(flow)).toBe(matches);
});

test('a flow has one name, by what was asked for', () => {
  expect(flowName(flow)).toBe('tcp 10.65.0.2 40000 > 10.96.0.1 80');
  const ping = { protocol: 58, asked: { source: 'fd00::1', destination: 'fd00::2', icmp: { type: 128, id: 7 } } };
  expect(flowName(ping)).toBe('icmpv6 fd00::1 > fd00::2 type 128 id 7');
});

test('protocols have names or numbers', () => {
  expect(['tcp', 'UDP', 'sctp', '47', '99', '256', 'tcpp', ''].map(protocolNumber)).toEqual([
    6,
    17,
    132,
    47,
    99,
    undefined,
    undefined,
    undefined,
  ]);
  expect([6, 17, 99].map(protocolText)).toEqual(['tcp', 'udp', '99']);
});
