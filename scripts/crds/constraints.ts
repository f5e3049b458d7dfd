/**
 * What the schemas' own checks demand of one value, in words of a CustomResourceDefinition. A check is known by its schema object, so that
 * it is constrained wherever it is used. Rules between fields are in `rules.ts`.
 */
import { felixField, felixFieldNames } from '#api/felix/felix-fields.ts';
import {
  cidr,
  dnsLabel,
  dnsSubdomain,
  endpointSelector,
  interfaceName,
  mac,
  net,
  portName,
  portProtocol,
  protocol,
  rulePort,
} from '#api/schema/checks.ts';
import type { CrdSchema } from './schema.ts';

/** Longest network in text: eight groups of four digits, seven colons, `/128`. */
const maxNetLength = 43;

/** 1 to 255 in at most three digits, as JavaScript's `Number` reads them. */
const byte = '0{0,2}[1-9]|0?[1-9][0-9]|1[0-9]{2}|2[0-4][0-9]|25[0-5]';
/** 1 to 65535 in at most five digits. */
const port =
  '(0{0,4}[1-9]|0{0,3}[1-9][0-9]|0{0,2}[1-9][0-9]{2}|0?[1-9][0-9]{3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])';

const octet = '(25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])';

/**
 * What looks like a network, where CEL would cost too much. (`format: cidr` would not do: where there is a format, the API server takes a
 * list for text.)
 */
export const networkPattern = networkOf('3[0-2]|[12]?[0-9]', '12[0-8]|1[01][0-9]|[1-9]?[0-9]');
/** The same without the whole of a family. */
export const smallerNetworkPattern = networkOf('3[0-2]|[12][0-9]|[1-9]', '12[0-8]|1[01][0-9]|[1-9]?[1-9]|[1-9]0');

function networkOf(prefix4: string, prefix6: string): string {
  return String.raw`^((${octet}\.){3}${octet}/(${prefix4})|[0-9a-fA-F:]*:[0-9a-fA-F:]*/(${prefix6}))$`;
}

const networkRule = {
  rule: 'isCIDR(self) && cidr(self) == cidr(self).masked()',
  message: 'must be a network address, e.g. 10.65.0.0/16 or fd00:10::/64',
};

const byCheck = new Map<unknown, CrdSchema>([
  [cidr, { maxLength: maxNetLength, 'x-kubernetes-validations': [networkRule] }],
  [
    net,
    {
      maxLength: maxNetLength,
      'x-kubernetes-validations': [
        { rule: 'isCIDR(self) || isIP(self)', message: 'must be an IP address or a network, e.g. 10.65.0.0/16' },
      ],
    },
  ],
  [
    endpointSelector,
    {
      'x-kubernetes-validations': [
        {
          // Only where it stands alone: elsewhere it may be in a text that a label is compared with.
          rule: 'self != "global()"',
          message: "must not use global(): it belongs in a rule's namespaceSelector",
        },
      ],
    },
  ],
  [dnsLabel, { maxLength: 63, pattern: '^[a-z0-9]([-a-z0-9]*[a-z0-9])?$' }],
  [dnsSubdomain, { maxLength: 253, pattern: '^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$' }],
  [interfaceName, { maxLength: 15, pattern: '^[a-zA-Z0-9_.-]+$' }],
  [mac, { maxLength: 17, pattern: '^[0-9a-fA-F]{2}(:[0-9a-fA-F]{2}){5}$' }],
  [portName, { maxLength: 15, pattern: '^([a-z0-9]+-)*[a-z0-9]*[a-z][a-z0-9]*(-[a-z0-9]+)*$' }],
  [protocol, { minimum: 1, maximum: 255, maxLength: 7, pattern: `^(TCP|UDP|ICMP|ICMPv6|SCTP|UDPLite|${byte})$` }],
  [
    portProtocol,
    {
      maxLength: 7,
      'x-kubernetes-validations': [
        {
          rule: 'string(self) in ["TCP", "UDP", "SCTP", "6", "06", "006", "17", "017", "132"]',
          message: 'must be TCP, UDP or SCTP: other protocols have no ports',
        },
      ],
    },
  ],
  [
    rulePort,
    {
      minimum: 1,
      maximum: 65535,
      maxLength: 128,
      pattern: `^(${port}(:${port})?|[a-zA-Z0-9_.-]*[a-zA-Z_.-][a-zA-Z0-9_.-]*)$`,
    },
  ],
  ...felixFieldNames.map((name) => felixField(name).type).map((type) => [type.schema, type.limits] as const),
]);

/** What a definition can say of the check that `schema` is; empty for a schema that is none. */
export function constraintOf(schema: unknown): CrdSchema {
  return structuredClone(byCheck.get(schema) ?? {});
}
