import { expect, test } from '@jest/globals';
import type { DataplaneConfig } from '../../messages.ts';
import { context } from './everything-for-tests.ts';
import { staticRules } from './static-chains.ts';
import type { HostNeeds } from './types.ts';

const NOTHING: HostNeeds = { normal: false, forward: false, preDnat: false, untracked: false };
const EVERYTHING: HostNeeds = { normal: true, forward: true, preDnat: true, untracked: true };
const RANGES = ['10.96.0.0/12', 'fd96::/16', '10.96.0.0/12'];

/** All rules as lines, hooks included; `first` and `last` say where in the kernel's chain. */
function lines(family: 4 | 6, needs: HostNeeds, config: Partial<DataplaneConfig> = {}): string[] {
  const tables = staticRules(needs, RANGES, context(family, config));
  return Object.entries(tables).flatMap(([table, { chains, hooks }]) => [
    ...chains.flatMap(({ name, rules }) => rules.map(({ text }) => `${table} ${name}: ${text}`)),
    ...[...hooks].flatMap(([name, { first = [], last = [] }]) => [
      ...first.map((text) => `${table} ${name} first: ${text}`),
      ...last.map((text) => `${table} ${name} last: ${text}`),
    ]),
  ]);
}

const ACCEPTED = '-m mark --mark 0x10000/0x10000 -m comment --comment "accepted by policy"';

test('without host endpoints: raw PREROUTING, filter INPUT and FORWARD, nothing in mangle', () => {
  expect(lines(4, NOTHING)).toEqual([
    'raw cali-PREROUTING: -j MARK --set-xmark 0x0/0x1f0000',
    'raw cali-PREROUTING: -i cali+ -m set ! --match-set cali40wl-src src,src -j DROP',
    'raw PREROUTING first: -j cali-PREROUTING',
    'filter cali-allow: -j MARK --set-xmark 0x10000/0x10000',
    'filter cali-pass: -j MARK --set-xmark 0x20000/0x20000',
    'filter cali-wl-to-host: -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT',
    'filter cali-wl-to-host: -j cali-from-wl-dispatch',
    'filter cali-wl-to-host: -m comment --comment "endpointToHostAction" -j DROP',
    'filter cali-cidr-block: -d 10.96.0.0/12 -j DROP',
    'filter cali-INPUT: -i cali+ -g cali-wl-to-host',
    'filter cali-FORWARD: -i cali+ -j cali-from-wl-dispatch',
    'filter cali-FORWARD: -o cali+ -j cali-to-wl-dispatch',
    'filter INPUT first: -j cali-INPUT',
    'filter FORWARD first: -j cali-FORWARD',
    'filter FORWARD last: -j cali-cidr-block',
    `filter FORWARD last: ${ACCEPTED} -j ACCEPT`,
  ]);
});

test('with host endpoints that have every kind of policy, all settings turned, IPv6', () => {
  const config: Partial<DataplaneConfig> = {
    interfacePrefixes: ['cali', 'tap'],
    endpointToHostAction: 'accept',
    serviceLoopPrevention: 'disabled',
    filterAllowAction: 'return',
    mangleAllowAction: 'return',
  };
  expect(lines(6, EVERYTHING, config)).toEqual([
    ...[135, 136, 131, 132, 143].map(
      (type) => `raw cali-wl-link-local: -p 58 -m icmp6 --icmpv6-type ${type} -j RETURN`,
    ),
    'raw cali-wl-link-local: -j DROP',
    'raw cali-allow: -j MARK --set-xmark 0x10000/0x10000',
    'raw cali-pass: -j MARK --set-xmark 0x20000/0x20000',
    'raw cali-PREROUTING: -j MARK --set-xmark 0x100000/0x1f0000',
    'raw cali-PREROUTING: -i cali+ -s fe80::/64 -g cali-wl-link-local',
    'raw cali-PREROUTING: -i tap+ -s fe80::/64 -g cali-wl-link-local',
    'raw cali-PREROUTING: -i cali+ -m set ! --match-set cali60wl-src src,src -j DROP',
    'raw cali-PREROUTING: -i tap+ -m set ! --match-set cali60wl-src src,src -j DROP',
    'raw cali-PREROUTING: -i cali+ -j RETURN',
    'raw cali-PREROUTING: -i tap+ -j RETURN',
    'raw cali-PREROUTING: -j cali-from-host-endpoint',
    'raw cali-PREROUTING: -m mark --mark 0x10000/0x10000 -j CT --notrack',
    'raw cali-OUTPUT: -j MARK --set-xmark 0x0/0x1f0000',
    'raw cali-OUTPUT: -o cali+ -j RETURN',
    'raw cali-OUTPUT: -o tap+ -j RETURN',
    'raw cali-OUTPUT: -j cali-to-host-endpoint',
    'raw cali-OUTPUT: -m mark --mark 0x10000/0x10000 -j CT --notrack',
    'raw PREROUTING first: -j cali-PREROUTING',
    'raw OUTPUT first: -j cali-OUTPUT',
    'mangle cali-allow: -j MARK --set-xmark 0x10000/0x10000',
    'mangle cali-pass: -j MARK --set-xmark 0x20000/0x20000',
    'mangle cali-PREROUTING: -m conntrack --ctstate RELATED,ESTABLISHED -j RETURN',
    'mangle cali-PREROUTING: -m mark --mark 0x10000/0x10000 -j RETURN',
    'mangle cali-PREROUTING: -j cali-from-host-endpoint',
    'mangle cali-PREROUTING: -m mark --mark 0x10000/0x10000 -m comment --comment "accepted by preDNAT policy" -j RETURN',
    'mangle cali-POSTROUTING: -m mark ! --mark 0x0/0x110000 -j RETURN',
    'mangle cali-POSTROUTING: -o cali+ -j RETURN',
    'mangle cali-POSTROUTING: -o tap+ -j RETURN',
    'mangle cali-POSTROUTING: -m conntrack --ctstate DNAT -j cali-to-host-endpoint',
    'mangle PREROUTING first: -j cali-PREROUTING',
    'mangle POSTROUTING first: -j cali-POSTROUTING',
    'filter cali-allow: -j MARK --set-xmark 0x10000/0x10000',
    'filter cali-pass: -j MARK --set-xmark 0x20000/0x20000',
    ...[130, 131, 132, 133, 135, 136, 143].map(
      (type) => `filter cali-wl-to-host: -p 58 -m icmp6 --icmpv6-type ${type} -j ACCEPT`,
    ),
    'filter cali-wl-to-host: -m conntrack --ctstate RELATED,ESTABLISHED -j RETURN',
    'filter cali-wl-to-host: -j cali-from-wl-dispatch',
    'filter cali-wl-to-host: -m comment --comment "endpointToHostAction" -j ACCEPT',
    'filter cali-INPUT: -i cali+ -g cali-wl-to-host',
    'filter cali-INPUT: -i tap+ -g cali-wl-to-host',
    `filter cali-INPUT: ${ACCEPTED} -j RETURN`,
    'filter cali-INPUT: -j cali-from-host-endpoint',
    `filter cali-INPUT: ${ACCEPTED} -j RETURN`,
    'filter cali-FORWARD: -m mark --mark 0x0/0x10000 -j cali-from-hep-forward',
    'filter cali-FORWARD: -i cali+ -j cali-from-wl-dispatch',
    'filter cali-FORWARD: -i tap+ -j cali-from-wl-dispatch',
    'filter cali-FORWARD: -o cali+ -j cali-to-wl-dispatch',
    'filter cali-FORWARD: -o tap+ -j cali-to-wl-dispatch',
    'filter cali-FORWARD: -j cali-to-hep-forward',
    `filter cali-OUTPUT: ${ACCEPTED} -j RETURN`,
    'filter cali-OUTPUT: -o cali+ -j RETURN',
    'filter cali-OUTPUT: -o tap+ -j RETURN',
    'filter cali-OUTPUT: -j MARK --set-xmark 0x0/0x1f0000',
    'filter cali-OUTPUT: -m conntrack ! --ctstate DNAT -j cali-to-host-endpoint',
    `filter cali-OUTPUT: ${ACCEPTED} -j RETURN`,
    'filter INPUT first: -j cali-INPUT',
    'filter FORWARD first: -j cali-FORWARD',
    `filter FORWARD last: ${ACCEPTED} -j RETURN`,
    'filter OUTPUT first: -j cali-OUTPUT',
  ]);
});
