/** Rules of FelixConfiguration's fields that a pattern can't say; what a pattern can is in the settings' own types. */
import { felixField, type FelixFieldName } from '#api/felix/felix-fields.ts';
import type { CrdRule } from './rules.ts';
import type { CrdSchema } from './schema.ts';

const kinds = ['FelixConfiguration'] as const;

/** A rule for one setting, or for a part of it; our validator speaks of the whole setting. */
function setting(
  name: FelixFieldName,
  part: string,
  check: { readonly rule?: string; readonly limits?: CrdSchema },
  breaks: unknown,
  beside?: object,
): CrdRule {
  const message = `must be ${felixField(name).type.expected}`;
  return { kinds, at: `spec.${name}${part}`, ...check, message, breaks, ...(beside === undefined ? {} : { beside }) };
}

const mask = { minimum: 3, maximum: 0xffffffff, maxLength: 64, pattern: '^([0-9]+|0[xX][0-9a-fA-F]+)$' };
const range = { minimum: 0, maximum: 65535, pattern: '^[0-9]+(:[0-9]+)?$' };
const net = { limits: { maxLength: 43 }, rule: 'isCIDR(self) || isIP(self)' };

function ofFamily(family: 4 | 6): { readonly rule: string; readonly limits: CrdSchema } {
  return {
    limits: { maxLength: 39 },
    rule: `self.lowerAscii() == "none" || (isIP(self) && ip(self).family() == ${family})`,
  };
}

export const settingsRules: readonly CrdRule[] = [
  setting('iptablesMarkMask', '', { limits: mask }, 'many'),
  setting('nftablesMarkMask', '', { limits: mask }, 'many'),
  setting('natPortRange', '', { limits: range }, '1-2'),
  setting('bpfPSNATPorts', '', { limits: range }, '1-2'),
  setting('kubeNodePortRanges', '[]', { limits: range }, '1-2'),
  setting('natOutgoingAddress', '', ofFamily(4), 'fd00::1'),
  setting('deviceRouteSourceAddress', '', ofFamily(4), 'fd00::1'),
  setting('deviceRouteSourceAddressIPv6', '', ofFamily(6), '10.0.0.1'),
  setting('externalNodesList', '[]', net, 'here'),
  setting('bpfDSROptoutCIDRs', '[]', net, 'here'),
  setting('bpfExcludeCIDRsFromNAT', '[]', net, 'here'),
  ...(['failsafeInboundHostPorts', 'failsafeOutboundHostPorts'] as const).flatMap((name) => [
    setting(name, '[].protocol', { limits: { pattern: '(?i)^(tcp|udp|sctp)$' } }, 'icmp', { port: 22 }),
    setting(name, '[].port', { limits: { type: 'integer', minimum: 0, maximum: 65535 } }, 65536),
    setting(name, '[].net', { limits: { maxLength: 43 }, rule: `self == "" || ${net.rule}` }, 'here', { port: 22 }),
  ]),
];
