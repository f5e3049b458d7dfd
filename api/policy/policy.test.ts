import { describe, expect, test } from '@jest/globals';
import { parseRulePort } from './ports.ts';
import { protocolHasPorts, protocolNumber, protocolText } from './protocols.ts';
import { effectivePolicyTypes, effectiveTypes } from './types-of.ts';

describe('a protocol', () => {
  test.each([
    ['TCP', 6],
    ['UDP', 17],
    ['SCTP', 132],
    ['ICMP', 1],
    ['ICMPv6', 58],
    ['UDPLite', 136],
    ['47', 47],
    [255, 255],
    [1, 1],
    [0, undefined],
    [256, undefined],
    [6.5, undefined],
    ['tcp', undefined],
    ['', undefined],
    ['1e1', undefined],
    ['toString', undefined],
  ])('%j has the number %s', (protocol, number) => {
    expect(protocolNumber(protocol)).toBe(number);
  });

  test('is told by name where it has one', () => {
    expect([1, 6, 17, 47, 58, 132, 136].map(protocolText)).toEqual([
      'ICMP',
      'TCP',
      'UDP',
      '47',
      'ICMPv6',
      'SCTP',
      'UDPLite',
    ]);
  });

  test('has ports if it is TCP, UDP or SCTP', () => {
    expect([1, 6, 17, 47, 58, 132, 136].filter(protocolHasPorts)).toEqual([6, 17, 132]);
  });
});

describe("a rule's port", () => {
  test.each([
    [80, { kind: 'range', min: 80, max: 80 }],
    ['80', { kind: 'range', min: 80, max: 80 }],
    ['1:65535', { kind: 'range', min: 1, max: 65535 }],
    ['5:5', { kind: 'range', min: 5, max: 5 }],
    ['http', { kind: 'name', name: 'http' }],
    ['8a', { kind: 'name', name: '8a' }],
    ['http-alt', { kind: 'name', name: 'http-alt' }],
    ['80-90', undefined],
    ['Http', undefined],
    ['a--b', undefined],
    ['-a', undefined],
    [0, undefined],
    [65536, undefined],
    [1.5, undefined],
    [-1, undefined],
    ['0:5', undefined],
    ['9:8', undefined],
    ['1:65536', undefined],
    ['999999', undefined],
    ['1:2:3', undefined],
    [':', undefined],
    ['', undefined],
    ['a b', undefined],
    ['a'.repeat(16), undefined],
  ])('%j is %j', (port, expected) => {
    expect(parseRulePort(port)).toEqual(expected);
  });
});

describe('the directions of a policy', () => {
  const rule = [{}];
  const both = { ingress: true, egress: true };
  const ingress = { ingress: true, egress: false };
  const egress = { ingress: false, egress: true };

  test.each([
    [{}, ingress],
    [{ types: [] }, ingress],
    [{ ingress: [], egress: [] }, ingress],
    [{ ingress: rule }, ingress],
    [{ egress: rule }, egress],
    [{ ingress: rule, egress: rule }, both],
    [{ types: ['Egress' as const], ingress: rule }, egress],
    [{ types: ['Egress' as const, 'Ingress' as const] }, both],
  ])('of projectcalico.org/v3 with %j are %j', (spec, expected) => {
    expect(effectiveTypes(spec)).toEqual(expected);
  });

  test.each([
    [{}, ingress],
    [{ egress: [] }, ingress],
    [{ egress: rule }, both],
    [{ policyTypes: ['Egress' as const] }, egress],
    [{ policyTypes: ['Ingress' as const], egress: rule }, ingress],
  ])('of Kubernetes with %j are %j', (spec, expected) => {
    expect(effectivePolicyTypes(spec)).toEqual(expected);
  });
});
