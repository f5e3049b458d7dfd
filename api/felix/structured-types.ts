/** Kinds of settings that are more than one word: ports, ranges, and values by key. */
import * as z from 'zod/mini';
import { tryParseNet, type CidrText } from '../cidr.ts';
import { parseDuration } from './duration.ts';
import { readAll, settingType, splitList } from './types.ts';

/** Both ends are in it. */
export interface Range {
  readonly min: number;
  readonly max: number;
}

/** A port, open whatever policy says; `net` limits the other end. */
export interface FailsafePort {
  readonly protocol: 'tcp' | 'udp' | 'sctp';
  readonly port: number;
  readonly net?: CidrText;
}

const portOrRange = z.union([z.number(), z.string()]);

/** A port, or `from:to`. */
export const portRange = settingType<Range, number | string>({
  expected: 'a port or a range of ports, e.g. 20000:29999',
  shape: portOrRange,
  read: readPortRange,
  readText: readPortRange,
});

export const portRanges = settingType<readonly Range[], readonly (number | string)[]>({
  expected: 'a list of ports and ranges of ports, e.g. 30000:32767',
  shape: z.array(portOrRange),
  read: (items) => readAll(items, readPortRange),
  readText: (text) => readAll(splitList(text), readPortRange),
  none: [],
});

function readPortRange(value: number | string): Range | undefined {
  return readRange(String(value), /^(\d+)(?::(\d+))?$/, 0, 65535);
}

function readRange(text: string, pattern: RegExp, lowest: number, highest: number): Range | undefined {
  const match = pattern.exec(text);
  const min = Number(match?.[1]);
  const max = Number(match?.[2] ?? match?.[1]);
  return match !== null && min >= lowest && max <= highest && min <= max ? { min, max } : undefined;
}

/** In the object `{protocol, port, net}`, in a variable `protocol:net:port`, `protocol:port` or `port`; an IPv6 net in square brackets. */
export const failsafePorts = settingType<
  readonly FailsafePort[],
  readonly { protocol?: string | undefined; port: number; net?: string | undefined }[]
>({
  expected: 'a list of ports with tcp, udp or sctp and perhaps a network (in a variable tcp:22,udp:[fd00::/8]:53)',
  shape: z.array(z.object({ protocol: z.optional(z.string()), port: z.number(), net: z.optional(z.string()) })),
  read: (items) => readAll(items, ({ protocol, port, net }) => readPort(protocol, String(port), net)),
  readText: (text) => readAll(splitList(text), readPortText),
  none: [],
});

function readPortText(text: string): FailsafePort | undefined {
  const match = /^(?:([a-z]+):)?(?:(?:\[([^\]]+)\]|([^:[\]]+)):)?(\d+)$/i.exec(text);
  return match === null ? undefined : readPort(match[1], match[4] ?? '', match[2] ?? match[3]);
}

function readPort(protocol = 'tcp', port: string, net = ''): FailsafePort | undefined {
  const name = protocol.toLowerCase();
  const network = net === '' ? undefined : tryParseNet(net);
  if ((name !== 'tcp' && name !== 'udp' && name !== 'sctp') || !/^\d{1,5}$/.test(port) || Number(port) > 65535) {
    return undefined;
  }
  if (net !== '' && network === undefined) {
    return undefined;
  }
  return { protocol: name, port: Number(port), ...(network === undefined ? {} : { net: network.text }) };
}

const rangeShape = z.object({ min: z.number(), max: z.number() });

export const routeTableRange = settingType<Range, Range>({
  expected: 'a range of routing tables from 1 to 250, e.g. 1-250',
  shape: rangeShape,
  read: ({ min, max }) => readRange(`${min}-${max}`, /^(\d+)-(\d+)$/, 1, 250),
  readText: (text) => readRange(text, /^(\d+)-(\d+)$/, 1, 250),
});

export const routeTableRanges = settingType<readonly Range[], readonly Range[]>({
  expected: 'a list of ranges of routing tables, e.g. 1-250, with 65535 tables at most',
  shape: z.array(rangeShape),
  read: (ranges) => readTableRanges(ranges.map(({ min, max }) => `${min}-${max}`)),
  readText: (text) => readTableRanges(text.split(/[ ,]+/).filter((item) => item !== '')),
  none: [],
});

function readTableRanges(texts: readonly string[]): readonly Range[] | undefined {
  const ranges = readAll(texts, (text) => readRange(text, /^(\d+)-(\d+)$/, 1, 0xffffffff));
  return ranges !== undefined && ranges.reduce((sum, { min, max }) => sum + max - min, 0) <= 65535 ? ranges : undefined;
}

/** `key=value` pairs separated by commas, in the object too. */
export const keyValueText = settingType<Readonly<Record<string, string>>, string>({
  expected: 'key=value pairs separated by commas',
  shape: z.string(),
  read: readPairs,
  readText: readPairs,
  none: {},
});

/** An object of texts; in a variable `key=value` pairs separated by commas. */
export const keyValues = settingType<Readonly<Record<string, string>>, Readonly<Record<string, string>>>({
  expected: 'an object of texts (in a variable key=value pairs separated by commas)',
  shape: z.record(z.string(), z.string()),
  read: (value) => value,
  readText: readPairs,
  none: {},
});

function readPairs(text: string): Readonly<Record<string, string>> | undefined {
  const pairs = readAll(splitList(text), (item) => {
    const match = /^([^=]+)=(.*)$/.exec(item);
    return match === null ? undefined : ([match[1]?.trim() ?? '', match[2]?.trim() ?? ''] as const);
  });
  return pairs === undefined ? undefined : Object.fromEntries(pairs);
}

/** Milliseconds by name. */
export const timeouts = settingType<Readonly<Record<string, number>>, readonly { name: string; timeout: string }[]>({
  expected: 'a list of names with durations (in a variable name=90s pairs separated by commas)',
  shape: z.array(z.object({ name: z.string(), timeout: z.string() })),
  read: (items) => readTimeouts(items.map(({ name, timeout }) => [name, timeout])),
  readText: (text) => {
    const pairs = readPairs(text);
    return pairs === undefined ? undefined : readTimeouts(Object.entries(pairs));
  },
  none: {},
});

function readTimeouts(pairs: readonly (readonly [string, string])[]): Readonly<Record<string, number>> | undefined {
  const entries = readAll(pairs, ([name, text]) => {
    const ms = parseDuration(text);
    return ms === undefined ? undefined : ([name, ms] as const);
  });
  return entries === undefined ? undefined : Object.fromEntries(entries);
}

/** How long a BPF conntrack record lives without packets, in milliseconds, or as the kernel's conntrack has it. */
export type ConntrackTimeouts = { readonly [K in ConntrackTimer]: number | 'Auto' };
export type ConntrackTimer = keyof typeof conntrackDefaults;

const conntrackDefaults = {
  creationGracePeriod: '10s',
  tcpSynSent: '20s',
  tcpEstablished: '1h',
  tcpFinsSeen: 'Auto',
  tcpResetSeen: '40s',
  udpTimeout: '60s',
  genericTimeout: '10m',
  icmpTimeout: '5s',
};
const conntrackTimers = Object.keys(conntrackDefaults) as ConntrackTimer[];

/** The defaults as a variable would have them. */
export const conntrackDefaultText = conntrackTimers.map((timer) => `${timer}=${conntrackDefaults[timer]}`).join(',');

/** Timers that are not given keep their defaults. */
export const conntrackTimeouts = settingType<ConntrackTimeouts, Readonly<Record<string, string>>>({
  expected: `durations or Auto for some of ${conntrackTimers.join(', ')}`,
  shape: z.record(z.string(), z.string()),
  read: readConntrackTimeouts,
  readText: (text) => {
    const pairs = readPairs(text);
    return pairs === undefined ? undefined : readConntrackTimeouts(pairs);
  },
});

function readConntrackTimeouts(pairs: Readonly<Record<string, string>>): ConntrackTimeouts | undefined {
  const texts: Record<ConntrackTimer, string> = { ...conntrackDefaults };
  for (const [name, text] of Object.entries(pairs)) {
    const timer = conntrackTimers.find((known) => known.toLowerCase() === name.toLowerCase());
    if (timer === undefined) {
      return undefined;
    }
    texts[timer] = text;
  }
  const entries = readAll(conntrackTimers, (timer) => {
    const value = texts[timer].toLowerCase() === 'auto' ? ('Auto' as const) : parseDuration(texts[timer]);
    return value === undefined ? undefined : ([timer, value] as const);
  });
  return entries === undefined ? undefined : (Object.fromEntries(entries) as ConntrackTimeouts);
}

/** Code points of RFC 2474 (CS), 2597 (AF), 3246 (EF), 5865 (VA) and 8622 (LE). */
// oxfmt-ignore
const dscpNames: Readonly<Record<string, number>> = {
  DF: 0, LE: 1, CS0: 0, CS1: 8, CS2: 16, CS3: 24, CS4: 32, CS5: 40, CS6: 48, CS7: 56,
  AF11: 10, AF12: 12, AF13: 14, AF21: 18, AF22: 20, AF23: 22, AF31: 26, AF32: 28, AF33: 30, AF41: 34, AF42: 36, AF43: 38,
  EF: 46, VA: 44,
};

export const dscp = settingType<number, number | string>({
  expected: 'a DSCP value from 0 to 63 or its name, e.g. EF',
  shape: z.union([z.number(), z.string()]),
  read: (value) => readDscp(String(value)),
  readText: readDscp,
});

function readDscp(text: string): number | undefined {
  const value = /^\d{1,2}$/.test(text) ? Number(text) : dscpNames[text.toUpperCase()];
  return value === undefined || value > 63 ? undefined : value;
}
